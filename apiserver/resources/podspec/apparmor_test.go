package podspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestSyncAppArmor(t *testing.T) {
	own := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	local := &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr.To("p")}
	for name, tc := range map[string]struct {
		value    string
		pod, has *corev1.AppArmorProfile
		want     *corev1.AppArmorProfile
	}{
		"unconfined":          {"unconfined", nil, nil, &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}},
		"the runtime's":       {"runtime/default", nil, nil, own},
		"the node's":          {"localhost/p", nil, nil, local},
		"nothing it knows":    {"localhost/", nil, nil, nil},
		"the container's own": {"unconfined", nil, own, own},
		"the pod's":           {"unconfined", own, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{AppArmorProfile: tc.pod}, Containers: []corev1.Container{{Name: "c"}}}}
			pod.Annotations = map[string]string{"container.apparmor.security.beta.kubernetes.io/c": tc.value}
			if tc.has != nil {
				pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: tc.has}
			}
			SyncAppArmor(t.Context(), pod)
			var got *corev1.AppArmorProfile
			if s := pod.Spec.Containers[0].SecurityContext; s != nil {
				got = s.AppArmorProfile
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
