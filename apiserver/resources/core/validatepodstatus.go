package core

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

func validatePodStatusUpdate(_ context.Context, pod, old *corev1.Pod) field.ErrorList {
	var errs field.ErrorList
	st := &pod.Status
	for i, c := range st.Conditions {
		at := statusPath.Child("conditions").Index(i)
		for _, msg := range validation.IsQualifiedName(string(c.Type)) {
			errs = append(errs, field.Invalid(at.Child("Type"), string(c.Type), msg))
		}
		errs = append(errs, podspec.NonNegativeInt(c.ObservedGeneration, at.Child("observedGeneration"))...)
	}
	if n := st.NominatedNodeName; n != "" {
		errs = append(errs, subdomainName(n, statusPath.Child("nominatedNodeName"))...)
	}
	if st.ObservedGeneration < 0 {
		errs = append(errs, field.Invalid(statusPath.Child("observedGeneration"), st.ObservedGeneration, "must be a non-negative integer"))
	}
	errs = append(errs, noRestart(&pod.Spec, st.ContainerStatuses, old.Status.ContainerStatuses, statusPath.Child("containerStatuses"))...)
	errs = append(errs, noRestart(&pod.Spec, st.InitContainerStatuses, old.Status.InitContainerStatuses, statusPath.Child("initContainerStatuses"))...)
	errs = append(errs, claimStatuses(pod)...)
	errs = append(errs, extendedClaim(&pod.Spec, st.ExtendedResourceClaimStatus, statusPath.Child("extendedResourceClaimStatus"))...)
	if is, was := st.QOSClass, old.Status.QOSClass; is != "" && was != "" && is != was {
		errs = append(errs, field.Invalid(statusPath.Child("qosClass"), is, "field is immutable"))
	}
	ips := make([]string, len(st.PodIPs))
	for i := range ips {
		ips[i] = st.PodIPs[i].IP
	}
	errs = append(errs, addresses(ips, st.PodIPs, statusPath.Child("podIPs"))...)
	errs = append(errs, hostAddresses(st)...)
	errs = append(errs, containerStatuses(&pod.Spec, st.ContainerStatuses, pod.Spec.Containers, true, statusPath.Child("containerStatuses"))...)
	errs = append(errs, containerStatuses(&pod.Spec, st.InitContainerStatuses, pod.Spec.InitContainers, true, statusPath.Child("initContainerStatuses"))...)
	errs = append(errs, containerStatuses(&pod.Spec, st.EphemeralContainerStatuses, nil, false, statusPath.Child("ephemeralContainerStatuses"))...)
	return errs
}

func subdomainName(name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range apivalidation.NameIsDNSSubdomain(name, false) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
}

func claimStatuses(pod *corev1.Pod) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, s := range pod.Status.ResourceClaimStatuses {
		at := statusPath.Child("resourceClaimStatuses").Index(i)
		if !slices.ContainsFunc(pod.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool { return c.Name == s.Name }) {
			errs = append(errs, field.Invalid(at.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		if seen[s.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), s.Name))
		}
		seen[s.Name] = true
		if s.ResourceClaimName != nil {
			errs = append(errs, subdomainName(*s.ResourceClaimName, at.Child("resourceClaimName"))...)
		}
	}
	return errs
}

// addresses are one of a family, or one of each. list is what holds them.
func addresses(ips []string, list any, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	v6 := 0
	for i, ip := range ips {
		errs = append(errs, validation.IsValidIPForLegacyField(at.Index(i), ip, true, nil)...)
		if strings.Contains(ip, ":") {
			v6++
		}
	}
	if n := len(ips); len(errs) == 0 && n > 1 && (n > 2 || v6 != 1) {
		errs = append(errs, field.Invalid(at, list, "may specify no more than one IP for each IP family"))
	}
	return errs
}

// hostAddresses are those of the node; the first is the one that older clients know.
func hostAddresses(st *corev1.PodStatus) field.ErrorList {
	if len(st.HostIPs) == 0 {
		return nil
	}
	at := statusPath.Child("hostIPs")
	var errs field.ErrorList
	if first := st.HostIPs[0].IP; first != st.HostIP {
		errs = append(errs, field.Invalid(at.Index(0).Child("ip"), first, "must be equal to `hostIP`"))
	}
	ips := make([]string, len(st.HostIPs))
	for i := range ips {
		ips[i] = st.HostIPs[i].IP
	}
	return append(errs, addresses(ips, st.HostIPs, at)...)
}

// containerStatuses checks what is said of the devices and users of containers. of
// are the containers; devices tells whether they may have any.
func containerStatuses(spec *corev1.PodSpec, list []corev1.ContainerStatus, of []corev1.Container, devices bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range list {
		s, at := &list[i], at.Index(i)
		if s.User != nil && s.User.Linux != nil {
			errs = append(errs, linuxUser(spec, s.User.Linux, at.Child("user", "linux"))...)
		}
		if !devices {
			if s.AllocatedResourcesStatus != nil {
				errs = append(errs, field.Forbidden(at.Child("allocatedResourcesStatus"), "must not be specified in container status"))
			}
			continue
		}
		c := slices.IndexFunc(of, func(c corev1.Container) bool { return c.Name == s.Name })
		if c < 0 {
			continue
		}
		for j := range s.AllocatedResourcesStatus {
			errs = append(errs, deviceHealth(&s.AllocatedResourcesStatus[j], &of[c].Resources, at.Child("allocatedResourcesStatus").Index(j))...)
		}
	}
	return errs
}

func deviceHealth(s *corev1.ResourceStatus, asked *corev1.ResourceRequirements, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if claim, is := strings.CutPrefix(string(s.Name), "claim:"); is {
		if !slices.ContainsFunc(asked.Claims, func(c corev1.ResourceClaim) bool {
			return claim == c.Name && c.Request == "" || c.Request != "" && claim == c.Name+"/"+c.Request
		}) {
			errs = append(errs, field.Invalid(at.Child("name"), s.Name, "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty"))
		}
	} else if _, ok := asked.Requests[s.Name]; !ok {
		errs = append(errs, field.Invalid(at.Child("name"), s.Name, "must match one of the container's resource requests"))
	}
	known := []corev1.ResourceHealthStatus{corev1.ResourceHealthStatusHealthy, corev1.ResourceHealthStatusUnhealthy, corev1.ResourceHealthStatusUnknown}
	seen := map[corev1.ResourceID]bool{}
	for i, r := range s.Resources {
		at := at.Child("resources").Index(i)
		if !slices.Contains(known, r.Health) {
			errs = append(errs, field.NotSupported(at.Child("health"), r.Health, known))
		}
		if seen[r.ResourceID] {
			errs = append(errs, field.Duplicate(at.Child("resourceID"), r.ResourceID))
		}
		seen[r.ResourceID] = true
	}
	return errs
}

func linuxUser(spec *corev1.PodSpec, u *corev1.LinuxContainerUser, at *field.Path) field.ErrorList {
	if spec.OS != nil && spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(at, "cannot be set for a windows pod")}
	}
	var errs field.ErrorList
	if u.UID < 0 || u.UID > 1<<32-1 {
		errs = append(errs, field.Invalid(at.Child("uid"), u.UID, validation.InclusiveRangeError(0, 1<<32-1)))
	}
	group := func(id int64, at *field.Path) {
		for _, msg := range validation.IsValidGroupID(id) {
			errs = append(errs, field.Invalid(at, id, msg))
		}
	}
	group(u.GID, at.Child("gid"))
	for i, id := range u.SupplementalGroups {
		group(id, at.Child("supplementalGroups").Index(i))
	}
	return errs
}
