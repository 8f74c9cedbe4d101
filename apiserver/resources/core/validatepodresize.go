package core

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

func validatePodResize(_ context.Context, pod, old *corev1.Pod) field.ErrorList {
	if _, mirror := old.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	errs := podSpecErrors(pod)
	if was := old.Status.QOSClass; was != "" && podspec.QOSClass(pod) != was {
		errs = append(errs, field.Invalid(specPath, was, "Pod QOS Class may not change as a result of resizing"))
	}
	if len(pod.Spec.Containers) != len(old.Spec.Containers) {
		return append(errs, field.Forbidden(specPath.Child("containers"), "containers may not be added or removed on resize"))
	}
	if len(pod.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(specPath.Child("initContainers"), "initContainers may not be added or removed on resize"))
	}
	errs = append(errs, inPlace(pod.Spec.Containers, old.Spec.Containers, "containers")...)
	errs = append(errs, inPlace(pod.Spec.InitContainers, old.Spec.InitContainers, "initContainers")...)
	for i := range pod.Spec.Containers {
		is, was := &pod.Spec.Containers[i].Resources, &old.Spec.Containers[i].Resources
		at := specPath.Child("containers").Index(i).Child("resources")
		errs = append(errs, taken(is.Requests, was.Requests, at, "requests")...)
		errs = append(errs, taken(is.Limits, was.Limits, at, "limits")...)
	}
	for i := range pod.Spec.InitContainers {
		is, was := &pod.Spec.InitContainers[i], &old.Spec.InitContainers[i]
		at := specPath.Child("initContainers").Index(i)
		if podspec.Sidecar(was) {
			errs = append(errs, taken(is.Resources.Requests, was.Resources.Requests, at.Child("resources"), "requests")...)
			errs = append(errs, taken(is.Resources.Limits, was.Resources.Limits, at.Child("resources"), "limits")...)
		}
		if othersDiffer(is, was) {
			errs = append(errs, field.Forbidden(at, "only cpu and memory resources for init or sidecar containers are mutable"))
		}
	}
	for i := range pod.Spec.Containers {
		if othersDiffer(&pod.Spec.Containers[i], &old.Spec.Containers[i]) {
			return append(errs, field.Forbidden(specPath, "only cpu and memory resources are mutable"))
		}
	}
	return errs
}

// inPlace: containers keep their names and their order.
func inPlace(is, was []corev1.Container, list string) field.ErrorList {
	var errs field.ErrorList
	for i := range is {
		if is[i].Name != was[i].Name {
			errs = append(errs, field.Forbidden(specPath.Child(list).Index(i).Child("name"), list+" may not be renamed or reordered on resize"))
		}
	}
	return errs
}

// taken refuses to take away what was asked for or bounded.
func taken(is, was corev1.ResourceList, at *field.Path, part string) field.ErrorList {
	for name := range was {
		if _, ok := is[name]; !ok && resizable(name) {
			return field.ErrorList{field.Forbidden(at.Child(part), fmt.Sprintf("resource %s cannot be removed", part))}
		}
	}
	if len(is) == 0 && len(was) > 0 {
		return field.ErrorList{field.Forbidden(at.Child(part), fmt.Sprintf("resource %s cannot be removed", part))}
	}
	return nil
}

func resizable(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory
}

// othersDiffer tells whether more of a container changed than what may, of that which
// a resize takes.
func othersDiffer(is, was *corev1.Container) bool {
	rest := func(list corev1.ResourceList) corev1.ResourceList {
		out := corev1.ResourceList{}
		for name, q := range list {
			if !resizable(name) {
				out[name] = q
			}
		}
		return out
	}
	return !equality.Semantic.DeepEqual(rest(is.Resources.Limits), rest(was.Resources.Limits)) ||
		!equality.Semantic.DeepEqual(rest(is.Resources.Requests), rest(was.Resources.Requests)) ||
		!equality.Semantic.DeepEqual(is.Resources.Claims, was.Resources.Claims) ||
		!equality.Semantic.DeepEqual(is.ResizePolicy, was.ResizePolicy)
}
