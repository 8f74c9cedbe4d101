package podspec

import corev1 "k8s.io/api/core/v1"

// dropAlpha empties the fields of alpha features. The features are off, and a
// server whose feature is off does not keep what it would ignore.
func dropAlpha(s *corev1.PodSpec) {
	s.EvictionResponders = nil
	s.SchedulingGroup = nil
	for i := range s.Volumes {
		dropAlphaSource(&s.Volumes[i].VolumeSource)
	}
	for i := range s.InitContainers {
		dropAlphaContainer(&s.InitContainers[i])
	}
	for i := range s.Containers {
		dropAlphaContainer(&s.Containers[i])
	}
	for i := range s.EphemeralContainers {
		dropAlphaContainer((*corev1.Container)(&s.EphemeralContainers[i].EphemeralContainerCommon))
	}
}

func dropAlphaContainer(c *corev1.Container) {
	for i := range c.VolumeMounts {
		c.VolumeMounts[i].BindMountOptions = nil
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		if p == nil {
			continue
		}
		if p.HTTPGet != nil {
			p.HTTPGet.Protocol = nil
		}
		if p.GRPC != nil {
			p.GRPC.Mode = nil
		}
	}
	if c.Lifecycle == nil {
		return
	}
	for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
		if h != nil && h.HTTPGet != nil {
			h.HTTPGet.Protocol = nil
		}
	}
}

func dropAlphaSource(s *corev1.VolumeSource) {
	if v := s.EmptyDir; v != nil {
		v.Mode = nil
	}
	if v := s.Secret; v != nil {
		v.DefaultUser = nil
		dropUsers(v.Items)
	}
	if v := s.ConfigMap; v != nil {
		v.DefaultUser = nil
		dropUsers(v.Items)
	}
	if v := s.DownwardAPI; v != nil {
		v.DefaultUser = nil
		dropFileUsers(v.Items)
	}
	if v := s.Projected; v != nil {
		v.DefaultUser = nil
		for i := range v.Sources {
			p := &v.Sources[i]
			if p.Secret != nil {
				dropUsers(p.Secret.Items)
			}
			if p.ConfigMap != nil {
				dropUsers(p.ConfigMap.Items)
			}
			if p.DownwardAPI != nil {
				dropFileUsers(p.DownwardAPI.Items)
			}
			if p.ServiceAccountToken != nil {
				p.ServiceAccountToken.User = nil
			}
			if p.ClusterTrustBundle != nil {
				p.ClusterTrustBundle.User = nil
			}
			if p.PodCertificate != nil {
				p.PodCertificate.User = nil
			}
		}
	}
}

func dropUsers(items []corev1.KeyToPath) {
	for i := range items {
		items[i].User = nil
	}
}

func dropFileUsers(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		items[i].User = nil
	}
}
