package core

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

var (
	specPath   = field.NewPath("spec")
	statusPath = field.NewPath("status")
	metaPath   = field.NewPath("metadata")
)

// updatablePodFields is how the refusal of a pod update names what may change.
const updatablePodFields = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

func validatePod(_ context.Context, pod *corev1.Pod) field.ErrorList {
	errs := podSpecErrors(pod)
	if len(pod.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create"))
	}
	errs = append(errs, tokensOfNobody(&pod.Spec)...)
	if len(pod.Spec.SchedulingGates) > 0 && pod.Spec.NodeName != "" {
		errs = append(errs, field.Forbidden(specPath.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// tokensOfNobody refuses tokens of a service account that the pod does not have.
func tokensOfNobody(s *corev1.PodSpec) field.ErrorList {
	if s.ServiceAccountName != "" {
		return nil
	}
	var errs field.ErrorList
	for i, v := range s.Volumes {
		if v.Projected == nil {
			continue
		}
		for j := range v.Projected.Sources {
			if v.Projected.Sources[j].ServiceAccountToken != nil {
				errs = append(errs, field.Forbidden(specPath.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"), "must not be specified when serviceAccountName is not set"))
			}
		}
	}
	return errs
}

func podSpecErrors(pod *corev1.Pod) field.ErrorList {
	errs := podspec.Validate(&pod.Spec, specPath)
	errs = append(errs, podspec.ValidateHostNetwork(&pod.Spec, specPath)...)
	errs = append(errs, podspec.ValidateImages(&pod.Spec, specPath)...)
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror && pod.Spec.NodeName == "" {
		errs = append(errs, field.Invalid(metaPath.Child("annotations").Key(corev1.MirrorPodAnnotationKey), pod.Annotations[corev1.MirrorPodAnnotationKey], "must set spec.nodeName if mirror pod annotation is set"))
	}
	return errs
}

func validatePodUpdate(_ context.Context, pod, old *corev1.Pod) field.ErrorList {
	errs := podSpecErrors(pod)
	if pod.Annotations[corev1.MirrorPodAnnotationKey] != old.Annotations[corev1.MirrorPodAnnotationKey] {
		errs = append(errs, field.Forbidden(metaPath.Child("annotations").Key(corev1.MirrorPodAnnotationKey), "may not add, remove or update mirror pod annotation"))
	}
	if len(pod.Spec.Containers) != len(old.Spec.Containers) {
		return append(errs, field.Forbidden(specPath.Child("containers"), "pod updates may not add or remove containers"))
	}
	if len(pod.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(specPath.Child("initContainers"), "pod updates may not add or remove containers"))
	}
	errs = append(errs, deadlineChange(pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds)...)
	errs = append(errs, gatesRemovedOnly(pod, old)...)
	errs = append(errs, tolerationsAddedOnly(pod.Spec.Tolerations, old.Spec.Tolerations)...)

	// What may change is put back; all that still differs then may not.
	rest := pod.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.SchedulingGates = old.Spec.SchedulingGates
	rest.Tolerations = old.Spec.Tolerations
	if is, was := rest.TerminationGracePeriodSeconds, old.Spec.TerminationGracePeriodSeconds; is != nil && was != nil && *was < 0 && *is == 1 {
		rest.TerminationGracePeriodSeconds = was
	}
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, gatedPlacement(rest, &old.Spec)...)
	}
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatablePodFields, diff.Diff(old.Spec, *rest))))
	}
	return errs
}

func deadlineChange(is, was *int64) field.ErrorList {
	at := specPath.Child("activeDeadlineSeconds")
	switch {
	case is != nil:
		if *is < 0 || *is > math.MaxInt32 {
			return field.ErrorList{field.Invalid(at, *is, validation.InclusiveRangeError(0, math.MaxInt32))}
		}
		if was != nil && *was < *is {
			return field.ErrorList{field.Invalid(at, *is, "must be less than or equal to previous value")}
		}
	case was != nil:
		return field.ErrorList{field.Invalid(at, is, "must not update from a positive integer to nil value")}
	}
	return nil
}

func gatesRemovedOnly(pod, old *corev1.Pod) field.ErrorList {
	had := map[string]bool{}
	for _, g := range old.Spec.SchedulingGates {
		had[g.Name] = true
	}
	var errs field.ErrorList
	for i, g := range pod.Spec.SchedulingGates {
		if !had[g.Name] {
			errs = append(errs, field.Forbidden(specPath.Child("schedulingGates").Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name)))
		}
	}
	return errs
}

func tolerationsAddedOnly(is, was []corev1.Toleration) field.ErrorList {
	for _, o := range was {
		o.TolerationSeconds = nil
		kept := slices.ContainsFunc(is, func(n corev1.Toleration) bool {
			n.TolerationSeconds = nil
			return equality.Semantic.DeepEqual(n, o)
		})
		if !kept {
			return field.ErrorList{field.Forbidden(specPath.Child("tolerations"), "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

// gatedPlacement lets a pod that waits behind scheduling gates narrow where it
// may run: it puts back in rest what was legally added.
func gatedPlacement(rest, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	if !maps.Equal(rest.NodeSelector, old.NodeSelector) {
		for k, v := range old.NodeSelector {
			if got, ok := rest.NodeSelector[k]; !ok || got != v {
				errs = append(errs, field.Invalid(specPath.Child("nodeSelector"), rest.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
				break
			}
		}
		rest.NodeSelector = old.NodeSelector
	}
	is, was := nodeAffinityOf(rest), nodeAffinityOf(old)
	if !equality.Semantic.DeepEqual(is, was) {
		errs = append(errs, affinityNarrowed(is, was)...)
		switch {
		case old.Affinity == nil && rest.Affinity.PodAffinity == nil && rest.Affinity.PodAntiAffinity == nil:
			rest.Affinity = nil
		case rest.Affinity == nil:
			rest.Affinity = &corev1.Affinity{NodeAffinity: was}
		default:
			rest.Affinity.NodeAffinity = was
		}
	}
	return errs
}

func nodeAffinityOf(s *corev1.PodSpec) *corev1.NodeAffinity {
	if s.Affinity == nil {
		return nil
	}
	return s.Affinity.NodeAffinity
}

func affinityNarrowed(is, was *corev1.NodeAffinity) field.ErrorList {
	if was == nil || was.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	at := specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	before := was.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	var now []corev1.NodeSelectorTerm
	if is != nil && is.RequiredDuringSchedulingIgnoredDuringExecution != nil {
		now = is.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	if len(before) > 0 && len(now) != len(before) {
		return field.ErrorList{field.Invalid(at, now, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	for i := range before {
		if len(before[i].MatchExpressions)+len(before[i].MatchFields) == 0 {
			continue
		}
		if len(now[i].MatchExpressions) < len(before[i].MatchExpressions) || len(now[i].MatchFields) < len(before[i].MatchFields) ||
			!equality.Semantic.DeepEqual(now[i].MatchExpressions[:len(before[i].MatchExpressions)], before[i].MatchExpressions) ||
			!equality.Semantic.DeepEqual(now[i].MatchFields[:len(before[i].MatchFields)], before[i].MatchFields) {
			return field.ErrorList{field.Invalid(at.Index(i), now[i], "only additions are allowed (no mutations or deletions)")}
		}
	}
	return nil
}

// extendedClaim checks what is said of the claim that gives extended resources:
// requests of it for resources that the containers ask for.
func extendedClaim(spec *corev1.PodSpec, s *corev1.PodExtendedResourceClaimStatus, at *field.Path) field.ErrorList {
	if s == nil {
		return nil
	}
	var errs field.ErrorList
	for _, msg := range apivalidation.NameIsDNSSubdomain(s.ResourceClaimName, false) {
		errs = append(errs, field.Invalid(at.Child("resourceClaimName"), s.ResourceClaimName, msg))
	}
	if len(s.RequestMappings) == 0 {
		errs = append(errs, field.Required(at.Child("requestMappings"), "at least one request mapping is required"))
	}
	seen := map[corev1.ContainerExtendedResourceRequest]bool{}
	for i, m := range s.RequestMappings {
		at := at.Child("requestMappings").Index(i)
		for _, msg := range validation.IsDNS1123Label(m.RequestName) {
			errs = append(errs, field.Invalid(at.Child("requestName"), m.RequestName, msg))
		}
		if seen[m] {
			errs = append(errs, field.Duplicate(at, m))
		}
		seen[m] = true
		all := slices.Concat(spec.InitContainers, spec.Containers)
		c := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == m.ContainerName })
		if c < 0 {
			errs = append(errs, field.Invalid(at.Child("containerName"), m.ContainerName, "must match the name of an entry in spec.initContainers.name or spec.containers.name"))
		} else if _, asked := all[c].Resources.Requests[corev1.ResourceName(m.ResourceName)]; !asked {
			errs = append(errs, field.Invalid(at.Child("resourceName"), m.ResourceName, "must match the extended resource name requested in the container"))
		}
	}
	return errs
}

// noRestart: a container that has ended for good does not run again.
func noRestart(spec *corev1.PodSpec, is, was []corev1.ContainerStatus, at *field.Path) field.ErrorList {
	if spec.RestartPolicy == corev1.RestartPolicyAlways {
		return nil
	}
	restarts := map[string]bool{}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if slices.ContainsFunc(list[i].RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
				return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
			}) {
				return nil // its end may start all of them anew
			}
			restarts[list[i].Name] = podspec.Sidecar(&list[i]) || list[i].RestartPolicy != nil || len(list[i].RestartPolicyRules) > 0
		}
	}
	var errs field.ErrorList
	for i, o := range was {
		if o.State.Terminated == nil || restarts[o.Name] {
			continue
		}
		if o.State.Terminated.ExitCode != 0 && spec.RestartPolicy == corev1.RestartPolicyOnFailure {
			continue
		}
		for _, n := range is {
			if n.Name == o.Name && n.State.Terminated == nil {
				errs = append(errs, field.Forbidden(at.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

func validateEphemeralUpdate(_ context.Context, pod, old *corev1.Pod) field.ErrorList {
	errs := podspec.Validate(&pod.Spec, specPath)
	errs = append(errs, podspec.ValidateImages(&pod.Spec, specPath)...)
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return append(errs, field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers"))
	}
	now := map[string]*corev1.EphemeralContainer{}
	for i := range pod.Spec.EphemeralContainers {
		now[pod.Spec.EphemeralContainers[i].Name] = &pod.Spec.EphemeralContainers[i]
	}
	at := specPath.Child("ephemeralContainers")
	for _, o := range old.Spec.EphemeralContainers {
		n, ok := now[o.Name]
		if !ok {
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", o.Name)))
		} else if !equality.Semantic.DeepEqual(o, *n) {
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", o.Name, diff.Diff(o, *n))))
		}
	}
	return errs
}

// podWarnings are those of new pods: people seldom change one.
func podWarnings(_ context.Context, pod, old *corev1.Pod) []string {
	if old != nil {
		return nil
	}
	out := podspec.Warnings(pod)
	if msgs := validation.IsDNS1123Label(pod.Name); pod.Name != "" && len(msgs) > 0 {
		out = append(out, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return out
}
