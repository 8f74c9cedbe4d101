package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// Who sets a field that changes nothing is told, and nobody else is.
func TestUnused(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{"nothing is set", "", nil},
		{"fields that count", "maxPods: 7\ntlsMinVersion: VersionTLS13\nfailSwapOn: false", nil},
		{"their defaults", "hairpinMode: promiscuous-bridge\neventRecordQPS: 50\nreadOnlyPort: 0", nil},
		{"some", "podLogsDir: /x\nstaticPodURL: http://x/\nmaxPods: 7\ndefaultPodSysctls: {net.core.somaxconn: '9'}\nrunOnce: true", []string{"podLogsDir", "runOnce", "defaultPodSysctls"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			list, err := UnusedOf(c)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, u := range list {
				got = append(got, u.Field)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

// Gates that count are not among those that change nothing.
func TestUnusedGates(t *testing.T) {
	c, err := Parse([]byte("featureGates: {DefaultPodSysctls: false, KubeletEnsureSecretPulledImages: false}"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]bool{"DefaultPodSysctls": false}, UnusedGates(c)); d != "" {
		t.Errorf("gates (-want +got):\n%s", d)
	}
}

// Each is a field, stands once, and has a reason.
func TestUnusedAreFields(t *testing.T) {
	known := map[string]bool{}
	for f := range reflect.TypeFor[kubeletv1beta1.KubeletConfiguration]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		known[name] = true
	}
	seen := map[string]bool{}
	for _, u := range unused() {
		if !known[u.Field] || seen[u.Field] || u.Why == "" {
			t.Errorf("%q: a field %v, seen before %v, why %q", u.Field, known[u.Field], seen[u.Field], u.Why)
		}
		seen[u.Field] = true
	}
}
