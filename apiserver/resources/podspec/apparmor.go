package podspec

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/request"
)

// SyncAppArmor gives containers the profiles that annotations name for them, where
// neither they nor the pod have one, and warns of the annotations.
func SyncAppArmor(ctx context.Context, pod *corev1.Pod) {
	if s := pod.Spec.SecurityContext; pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows || s != nil && s.AppArmorProfile != nil {
		return
	}
	eachContainer(&pod.Spec, nil, func(c *corev1.Container, _ *field.Path) {
		key := corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + c.Name
		profile := appArmorProfile(pod.Annotations[key])
		if profile == nil || c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			return
		}
		if c.SecurityContext == nil {
			c.SecurityContext = &corev1.SecurityContext{}
		}
		c.SecurityContext.AppArmorProfile = profile
		request.Warn(ctx, fmt.Sprintf(`%s: deprecated since v1.30; use the "appArmorProfile" field instead`, field.NewPath("metadata", "annotations").Key(key)))
	})
}

// appArmorProfile is what an annotation's value names; nil where it names nothing.
func appArmorProfile(value string) *corev1.AppArmorProfile {
	switch value {
	case corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	case corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	}
	if name, ok := strings.CutPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix); ok && name != "" {
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: ptr.To(name)}
	}
	return nil
}
