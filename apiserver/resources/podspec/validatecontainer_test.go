package podspec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// TestImagesWithSpaces: pods may not have them, their templates may.
func TestImagesWithSpaces(t *testing.T) {
	of := func(image string) corev1.Container { return corev1.Container{Name: "c", Image: image} }
	cases := map[string]struct {
		spec corev1.PodSpec
		pod  []string
		spot []string
	}{
		"none":                   {spec: corev1.PodSpec{Containers: []corev1.Container{of("i")}}},
		"before":                 {spec: corev1.PodSpec{Containers: []corev1.Container{of("i"), of(" i")}}, pod: []string{"containers[1].image"}},
		"behind, in an init one": {spec: corev1.PodSpec{InitContainers: []corev1.Container{of("i\n")}}, pod: []string{"initContainers[0].image"}},
		"in an ephemeral one, of pods and templates": {
			spec: corev1.PodSpec{EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "c", Image: " i"}}}},
			spot: []string{"ephemeralContainers[0].image"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			texts := func(errs field.ErrorList) []string {
				var out []string
				for _, e := range errs {
					if strings.Contains(e.Detail, "whitespace") {
						out = append(out, strings.TrimPrefix(e.Field, "spec."))
					}
				}
				return out
			}
			if d := cmp.Diff(c.pod, texts(ValidateImages(&c.spec, field.NewPath("spec")))); d != "" {
				t.Errorf("of a pod (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.spot, texts(Validate(&c.spec, field.NewPath("spec")))); d != "" {
				t.Errorf("of both (-want +got):\n%s", d)
			}
		})
	}
}
