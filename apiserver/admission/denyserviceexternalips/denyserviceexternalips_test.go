package denyserviceexternalips

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	"skiff/apiserver/admission"
)

// A Service gets no address of the outside that it did not have (CVE-2020-8554).
//
// Covers: api.admission-optional
func TestExternalAddresses(t *testing.T) {
	with := func(ips ...string) *v1.Service { return &v1.Service{Spec: v1.ServiceSpec{ExternalIPs: ips}} }
	for name, tc := range map[string]struct {
		old, now *v1.Service
		want     bool
	}{
		"none":            {nil, with(), true},
		"new":             {nil, with("192.0.2.1"), false},
		"as it was":       {with("192.0.2.1"), with("192.0.2.1"), true},
		"one less":        {with("192.0.2.1", "192.0.2.2"), with("192.0.2.2"), true},
		"one more":        {with("192.0.2.1"), with("192.0.2.1", "192.0.2.2"), false},
		"another instead": {with("192.0.2.1"), with("192.0.2.2"), false},
	} {
		t.Run(name, func(t *testing.T) {
			a := &admission.Attributes{Operation: admission.Create, Resource: v1.SchemeGroupVersion.WithResource("services"), Object: tc.now}
			if tc.old != nil {
				a.Operation, a.OldObject = admission.Update, tc.old
			}
			if err := New().Validate(t.Context(), a); (err == nil) != tc.want {
				t.Errorf("got %v", err)
			}
		})
	}
}
