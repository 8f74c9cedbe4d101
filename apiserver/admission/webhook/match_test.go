package webhook

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Covers: api.webhooks, api.policies
func TestExempt(t *testing.T) {
	for name, tc := range map[string]struct {
		of   schema.GroupResource
		want bool
	}{
		"who one is":         {schema.GroupResource{Group: "authentication.k8s.io", Resource: "tokenreviews"}, true},
		"what one may do":    {schema.GroupResource{Group: "authorization.k8s.io", Resource: "subjectaccessreviews"}, true},
		"webhooks":           {schema.GroupResource{Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations"}, true},
		"others of a group":  {schema.GroupResource{Group: "authorization.k8s.io", Resource: "others"}, false},
		"the same elsewhere": {schema.GroupResource{Group: "example.com", Resource: "tokenreviews"}, false},
		"pods":               {schema.GroupResource{Resource: "pods"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := exempt(tc.of); got != tc.want {
				t.Errorf("exempt %v, want %v", got, tc.want)
			}
		})
	}
}
