package discovery

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

func slice(kind discoveryv1.AddressType, addresses ...string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{AddressType: kind, Endpoints: []discoveryv1.Endpoint{{Addresses: addresses}}}
}

func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    *discoveryv1.EndpointSlice
		want []string
	}{
		{"fine", slice("IPv4", "1.2.3.4"), nil},
		{"none", slice("IPv4"), []string{"endpoints[0].addresses: Required value"}},
		{"no address", slice("IPv4", "x"), []string{`endpoints[0].addresses[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
		{"the other family", slice("IPv4", "2001:db8::1"), []string{`endpoints[0].addresses: Invalid value: "2001:db8::1": must be an IPv4 address`}},
		{"the older family", slice("IPv6", "1.2.3.4"), []string{`endpoints[0].addresses: Invalid value: "1.2.3.4": must be an IPv6 address`}},
		{"unspecified", slice("IPv4", "0.0.0.0"), []string{`endpoints[0].addresses[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)`}},
		{"loopback", slice("IPv6", "::1"), []string{`endpoints[0].addresses[0]: Invalid value: "::1": may not be in the loopback range (127.0.0.0/8, ::1/128)`}},
		{"of a kind unknown", slice("x", "y"), []string{`addressType: Unsupported value: "x": supported values: "FQDN", "IPv4", "IPv6"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, e := range validateSlice(tc.o, nil) {
				got = append(got, e.Error())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	stored := slice("IPv4", "x")
	if errs := validateSlice(stored.DeepCopy(), stored); len(errs) > 0 {
		t.Error("what is stored:", errs)
	}
}

// What a request says counts as a change, also where it is dropped; labels do too.
func TestGeneration(t *testing.T) {
	old := slice("IPv4", "1.2.3.4")
	old.Generation = 3
	for _, tc := range []struct {
		name   string
		change func(*discoveryv1.EndpointSlice)
		want   int64
	}{
		{"nothing", func(*discoveryv1.EndpointSlice) {}, 3},
		{"an annotation", func(o *discoveryv1.EndpointSlice) { o.Annotations = map[string]string{"a": "b"} }, 3},
		{"a label", func(o *discoveryv1.EndpointSlice) { o.Labels = map[string]string{"a": "b"} }, 4},
		{"an address", func(o *discoveryv1.EndpointSlice) { o.Endpoints[0].Addresses = []string{"1.2.3.5"} }, 4},
		{"a topology", func(o *discoveryv1.EndpointSlice) {
			o.Endpoints[0].DeprecatedTopology = map[string]string{"a": "b"}
		}, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := old.DeepCopy()
			tc.change(o)
			prepareUpdate(t.Context(), o, old)
			if o.Generation != tc.want || o.Endpoints[0].DeprecatedTopology != nil {
				t.Errorf("generation %d, want %d; topology %v", o.Generation, tc.want, o.Endpoints[0].DeprecatedTopology)
			}
		})
	}
}

// An endpoint that said its node in the old way goes on saying it in the new one.
func TestTopologyNamesTheNode(t *testing.T) {
	old, o := slice("IPv4", "1.2.3.4"), slice("IPv4", "1.2.3.5")
	old.Endpoints[0].DeprecatedTopology = map[string]string{corev1.LabelHostname: "n"}
	o.Endpoints[0].DeprecatedTopology = map[string]string{corev1.LabelHostname: "n"}
	prepareUpdate(t.Context(), o, old)
	want := []discoveryv1.Endpoint{{Addresses: []string{"1.2.3.5"}, NodeName: ptr.To("n")}}
	if diff := cmp.Diff(want, o.Endpoints); diff != "" {
		t.Error(diff)
	}
}

func TestOddAddressesAreWarnedOf(t *testing.T) {
	o := slice("IPv6", "2001:DB8::1")
	want := []string{`endpoints[0].addresses[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")`}
	if diff := cmp.Diff(want, warnings(t.Context(), o, nil)); diff != "" {
		t.Error(diff)
	}
	o.Labels = map[string]string{discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"}
	if got := warnings(t.Context(), o, nil); len(got) > 0 {
		t.Error(got)
	}
}
