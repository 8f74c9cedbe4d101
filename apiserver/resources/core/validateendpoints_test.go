package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestAddressesOfEndpoints(t *testing.T) {
	for _, tc := range []struct {
		name, ip    string
		errs, warns []string
	}{
		{"fine", "1.2.3.4", nil, nil},
		{"written in an odd way", "2001:DB8::1", nil, []string{`subsets[0].addresses[0].ip: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")`}},
		{"unspecified", "0.0.0.0", []string{`subsets[0].addresses[0].ip: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)`}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &corev1.Endpoints{Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: tc.ip}}}}}
			if diff := cmp.Diff(tc.errs, texts(validateEndpoints(t.Context(), e))); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.warns, endpointsWarnings(t.Context(), e, nil)); diff != "" {
				t.Error(diff)
			}
			if errs := validateEndpointsUpdate(t.Context(), e, e.DeepCopy()); len(errs) > 0 {
				t.Error("what is stored:", errs)
			}
		})
	}
}
