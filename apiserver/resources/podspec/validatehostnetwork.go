package podspec

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateHostNetwork: on the node's network a container's port is the node's.
func ValidateHostNetwork(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	if !s.HostNetwork {
		return nil
	}
	var errs field.ErrorList
	check := func(list []corev1.Container, at *field.Path) {
		for i := range list {
			for j, p := range list[i].Ports {
				if p.HostPort != p.ContainerPort {
					errs = append(errs, field.Invalid(at.Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort, "must match `containerPort` when `hostNetwork` is true"))
				}
			}
		}
	}
	check(s.Containers, path.Child("containers"))
	check(s.InitContainers, path.Child("initContainers"))
	return errs
}
