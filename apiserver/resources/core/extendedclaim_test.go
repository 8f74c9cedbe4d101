package core

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestExtendedResourceClaimStatus(t *testing.T) {
	const toy = "example.com/toy"
	gives := func(container, name, request string) corev1.ContainerExtendedResourceRequest {
		return corev1.ContainerExtendedResourceRequest{ContainerName: container, ResourceName: name, RequestName: request}
	}
	for _, tc := range []struct {
		name, claim string
		mappings    []corev1.ContainerExtendedResourceRequest
		want        string // empty: valid
	}{
		{name: "valid", claim: "c", mappings: []corev1.ContainerExtendedResourceRequest{gives("i", toy, "r"), gives("c", toy, "r")}},
		{name: "no mapping", claim: "c", want: "requestMappings: Required value"},
		{name: "no claim", mappings: []corev1.ContainerExtendedResourceRequest{gives("c", toy, "r")}, want: `resourceClaimName: Invalid value: ""`},
		{name: "twice", claim: "c", mappings: []corev1.ContainerExtendedResourceRequest{gives("c", toy, "r"), gives("c", toy, "r")}, want: "requestMappings[1]: Duplicate value"},
		{name: "no such container", claim: "c", mappings: []corev1.ContainerExtendedResourceRequest{gives("x", toy, "r")}, want: "requestMappings[0].containerName: Invalid value"},
		{name: "not asked for", claim: "c", mappings: []corev1.ContainerExtendedResourceRequest{gives("c", "example.com/doll", "r")}, want: "requestMappings[0].resourceName: Invalid value"},
		{name: "no request", claim: "c", mappings: []corev1.ContainerExtendedResourceRequest{gives("c", toy, "a/b")}, want: "requestMappings[0].requestName: Invalid value"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asks := corev1.ResourceRequirements{Requests: corev1.ResourceList{toy: resource.MustParse("1")}}
			spec := &corev1.PodSpec{InitContainers: []corev1.Container{{Name: "i", Resources: asks}}, Containers: []corev1.Container{{Name: "c", Resources: asks}}}
			s := &corev1.PodExtendedResourceClaimStatus{ResourceClaimName: tc.claim, RequestMappings: tc.mappings}
			got := strings.Join(texts(extendedClaim(spec, s, statusPath)), "\n")
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
