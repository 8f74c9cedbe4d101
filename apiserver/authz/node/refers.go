package node

import corev1 "k8s.io/api/core/v1"

// refers tells whether a pod names a Secret or ConfigMap.
func refers(p *corev1.Pod, resource, namespace, name string) bool {
	if p.Namespace != namespace {
		return false
	}
	if resource == "secrets" {
		for _, ref := range p.Spec.ImagePullSecrets {
			if ref.Name == name {
				return true
			}
		}
	}
	for i := range p.Spec.Volumes {
		if volumeRefers(&p.Spec.Volumes[i], resource, name) {
			return true
		}
	}
	found := false
	visit := func(env []corev1.EnvVar, from []corev1.EnvFromSource) {
		for i := range env {
			if s := env[i].ValueFrom; s != nil {
				found = found || resource == "secrets" && s.SecretKeyRef != nil && s.SecretKeyRef.Name == name ||
					resource == "configmaps" && s.ConfigMapKeyRef != nil && s.ConfigMapKeyRef.Name == name
			}
		}
		for i := range from {
			found = found || resource == "secrets" && from[i].SecretRef != nil && from[i].SecretRef.Name == name ||
				resource == "configmaps" && from[i].ConfigMapRef != nil && from[i].ConfigMapRef.Name == name
		}
	}
	for i := range p.Spec.InitContainers {
		visit(p.Spec.InitContainers[i].Env, p.Spec.InitContainers[i].EnvFrom)
	}
	for i := range p.Spec.Containers {
		visit(p.Spec.Containers[i].Env, p.Spec.Containers[i].EnvFrom)
	}
	for i := range p.Spec.EphemeralContainers {
		visit(p.Spec.EphemeralContainers[i].Env, p.Spec.EphemeralContainers[i].EnvFrom)
	}
	return found
}

func volumeRefers(v *corev1.Volume, resource, name string) bool {
	if resource == "configmaps" {
		if v.ConfigMap != nil && v.ConfigMap.Name == name {
			return true
		}
	} else if v.Secret != nil && v.Secret.SecretName == name || v.CSI != nil && v.CSI.NodePublishSecretRef != nil && v.CSI.NodePublishSecretRef.Name == name {
		return true
	}
	if v.Projected == nil {
		return false
	}
	for i := range v.Projected.Sources {
		s := &v.Projected.Sources[i]
		if resource == "configmaps" && s.ConfigMap != nil && s.ConfigMap.Name == name || resource == "secrets" && s.Secret != nil && s.Secret.Name == name {
			return true
		}
	}
	return false
}
