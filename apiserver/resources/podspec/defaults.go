// Package podspec has the rules of a pod's specification that pods and every
// kind with a pod template share: defaults, quality of service, validation.
package podspec

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// SetTemplateDefaults fills a pod template.
func SetTemplateDefaults(t *corev1.PodTemplateSpec) { SetDefaults(&t.Spec) }

// SetPodDefaults fills what is filled for a pod itself beyond SetDefaults.
func SetPodDefaults(pod *corev1.Pod) {
	SetDefaults(&pod.Spec)
	spec := &pod.Spec
	if spec.EnableServiceLinks == nil {
		spec.EnableServiceLinks = ptr.To(corev1.DefaultEnableServiceLinks)
	}
	if spec.HostNetwork {
		hostNetworkPorts(spec.Containers)
		hostNetworkPorts(spec.InitContainers)
	}
	for i := range spec.Containers {
		requestsFromLimits(&spec.Containers[i].Resources)
	}
	for i := range spec.InitContainers {
		requestsFromLimits(&spec.InitContainers[i].Resources)
	}
	podLevelRequests(spec)
}

func hostNetworkPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			if p := &containers[i].Ports[j]; p.HostPort == 0 {
				p.HostPort = p.ContainerPort
			}
		}
	}
}

func requestsFromLimits(r *corev1.ResourceRequirements) {
	for name, limit := range r.Limits {
		if r.Requests == nil {
			r.Requests = corev1.ResourceList{}
		}
		if _, ok := r.Requests[name]; !ok {
			r.Requests[name] = limit.DeepCopy()
		}
	}
}

// PodLevelResource says whether a resource may be set for a whole pod.
func PodLevelResource(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory ||
		strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// podLevelRequests fills the pod's own requests: from its containers where they
// ask for the resource, else from the pod's limits.
func podLevelRequests(spec *corev1.PodSpec) {
	if spec.Resources == nil {
		return
	}
	requests := spec.Resources.Requests
	if requests == nil {
		requests = corev1.ResourceList{}
	}
	for name, total := range containersRequests(spec) {
		if _, ok := requests[name]; !ok && PodLevelResource(name) && (name == corev1.ResourceCPU || name == corev1.ResourceMemory) {
			requests[name] = total
		}
	}
	for name, limit := range spec.Resources.Limits {
		if _, ok := requests[name]; !ok && PodLevelResource(name) {
			requests[name] = limit.DeepCopy()
		}
	}
	if len(requests) > 0 {
		spec.Resources.Requests = requests
	}
}

// containersRequests sums what the containers ask for: the larger of all
// running ones and of the worst moment of initialisation.
func containersRequests(spec *corev1.PodSpec) corev1.ResourceList {
	sum, sidecars, peak := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range spec.Containers {
		addTo(sum, spec.Containers[i].Resources.Requests)
	}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if Sidecar(c) {
			addTo(sidecars, c.Resources.Requests)
			addTo(sum, c.Resources.Requests)
			maxTo(peak, sidecars)
			continue
		}
		moment := corev1.ResourceList{}
		addTo(moment, sidecars)
		addTo(moment, c.Resources.Requests)
		maxTo(peak, moment)
	}
	maxTo(sum, peak)
	return sum
}

// Sidecar says whether an init container keeps running beside the others.
func Sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func addTo(list, more corev1.ResourceList) {
	for name, q := range more {
		v := list[name].DeepCopy()
		v.Add(q)
		list[name] = v
	}
}

func maxTo(list, other corev1.ResourceList) {
	for name, q := range other {
		if v, ok := list[name]; !ok || q.Cmp(v) > 0 {
			list[name] = q.DeepCopy()
		}
	}
}

// SetDefaults fills a pod specification, in a pod or in a template.
func SetDefaults(spec *corev1.PodSpec) {
	dropAlpha(spec)
	SyncServiceAccount(spec)
	if spec.DNSPolicy == "" {
		spec.DNSPolicy = corev1.DNSClusterFirst
	}
	if spec.RestartPolicy == "" {
		spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	if spec.SecurityContext == nil {
		spec.SecurityContext = &corev1.PodSecurityContext{}
	}
	if spec.TerminationGracePeriodSeconds == nil {
		spec.TerminationGracePeriodSeconds = ptr.To[int64](corev1.DefaultTerminationGracePeriodSeconds)
	}
	if spec.SchedulerName == "" {
		spec.SchedulerName = corev1.DefaultSchedulerName
	}
	for i := range spec.Volumes {
		SetVolumeDefaults(&spec.Volumes[i])
	}
	for i := range spec.InitContainers {
		setContainerDefaults(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		setContainerDefaults(&spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		setContainerDefaults(&c)
		spec.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
	RoundResources(spec.Overhead)
	if spec.Resources != nil {
		RoundResources(spec.Resources.Limits)
		RoundResources(spec.Resources.Requests)
	}
}

// SyncServiceAccount makes the deprecated field equal to its successor, which
// wins where both are set.
func SyncServiceAccount(spec *corev1.PodSpec) {
	if spec.ServiceAccountName == "" {
		spec.ServiceAccountName = spec.DeprecatedServiceAccount
	}
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
}

// RoundResources rounds every quantity up to thousandths, the smallest that is kept.
func RoundResources(list corev1.ResourceList) {
	for name, q := range list {
		q.RoundUp(resource.Milli)
		list[name] = q
	}
}

func setContainerDefaults(c *corev1.Container) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = pullPolicy(c.Image)
	}
	if c.TerminationMessagePath == "" {
		c.TerminationMessagePath = corev1.TerminationMessagePathDefault
	}
	if c.TerminationMessagePolicy == "" {
		c.TerminationMessagePolicy = corev1.TerminationMessageReadFile
	}
	for i := range c.Ports {
		if c.Ports[i].Protocol == "" {
			c.Ports[i].Protocol = corev1.ProtocolTCP
		}
	}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil {
			continue
		}
		setFieldRefDefaults(from.FieldRef)
		if from.FileKeyRef != nil && from.FileKeyRef.Optional == nil {
			from.FileKeyRef.Optional = ptr.To(false)
		}
	}
	RoundResources(c.Resources.Limits)
	RoundResources(c.Resources.Requests)
	setProbeDefaults(c.LivenessProbe)
	setProbeDefaults(c.ReadinessProbe)
	setProbeDefaults(c.StartupProbe)
	if c.Lifecycle != nil {
		if h := c.Lifecycle.PostStart; h != nil {
			setHTTPGetDefaults(h.HTTPGet)
		}
		if h := c.Lifecycle.PreStop; h != nil {
			setHTTPGetDefaults(h.HTTPGet)
		}
	}
}

func setProbeDefaults(p *corev1.Probe) {
	if p == nil {
		return
	}
	if p.TimeoutSeconds == 0 {
		p.TimeoutSeconds = 1
	}
	if p.PeriodSeconds == 0 {
		p.PeriodSeconds = 10
	}
	if p.SuccessThreshold == 0 {
		p.SuccessThreshold = 1
	}
	if p.FailureThreshold == 0 {
		p.FailureThreshold = 3
	}
	setHTTPGetDefaults(p.HTTPGet)
	if p.GRPC != nil && p.GRPC.Service == nil {
		p.GRPC.Service = ptr.To("")
	}
}

func setHTTPGetDefaults(h *corev1.HTTPGetAction) {
	if h == nil {
		return
	}
	if h.Path == "" {
		h.Path = "/"
	}
	if h.Scheme == "" {
		h.Scheme = corev1.URISchemeHTTP
	}
}

func setFieldRefDefaults(r *corev1.ObjectFieldSelector) {
	if r != nil && r.APIVersion == "" {
		r.APIVersion = "v1"
	}
}

// pullPolicy is Always for an image of the tag latest, or of no tag and digest.
func pullPolicy(image string) corev1.PullPolicy {
	if ref, digest, ok := strings.Cut(image, "@"); ok && digest != "" {
		if tag := imageTag(ref); tag == "latest" {
			return corev1.PullAlways
		}
		return corev1.PullIfNotPresent
	}
	if tag := imageTag(image); image != "" && (tag == "" || tag == "latest") {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func imageTag(ref string) string {
	rest := ref[strings.LastIndex(ref, "/")+1:]
	_, tag, _ := strings.Cut(rest, ":")
	return tag
}
