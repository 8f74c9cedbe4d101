package admission

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// appArmor refuses a pod that counts on being confined where nothing confines it.
func appArmor(in Input) *Refusal {
	// What has started before is left as it is.
	if in.AppArmor || in.Pod.Status.Phase != "" && in.Pod.Status.Phase != v1.PodPending || !wantsAppArmor(&in.Pod.Spec) {
		return nil
	}
	return &Refusal{"AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
}

func wantsAppArmor(spec *v1.PodSpec) bool {
	confines := func(p *v1.AppArmorProfile) bool { return p != nil && p.Type != v1.AppArmorProfileTypeUnconfined }
	of := func(c v1.Container) bool {
		return c.SecurityContext != nil && confines(c.SecurityContext.AppArmorProfile)
	}
	return spec.SecurityContext != nil && confines(spec.SecurityContext.AppArmorProfile) ||
		slices.ContainsFunc(spec.InitContainers, of) || slices.ContainsFunc(spec.Containers, of) ||
		slices.ContainsFunc(spec.EphemeralContainers, func(c v1.EphemeralContainer) bool {
			return of(v1.Container(c.EphemeralContainerCommon))
		})
}
