package statefulset

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/controllers/podcontrol"
)

func podName(set *apps.StatefulSet, ordinal int) string {
	return set.Name + "-" + strconv.Itoa(ordinal)
}

// ordinalOf is the pod's place in the set, -1 when its name gives none.
func ordinalOf(set *apps.StatefulSet, pod *v1.Pod) int {
	rest, ok := strings.CutPrefix(pod.Name, set.Name+"-")
	if !ok {
		return -1
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n < 0 || strconv.Itoa(n) != rest {
		return -1
	}
	return n
}

func first(set *apps.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

func replicas(set *apps.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}

func claimName(set *apps.StatefulSet, template *v1.PersistentVolumeClaim, ordinal int) string {
	return template.Name + "-" + podName(set, ordinal)
}

// NewPod is the pod at an ordinal, of a revision's template.
func NewPod(set *apps.StatefulSet, template *v1.PodTemplateSpec, revision string, ordinal int) *v1.Pod {
	pod := podcontrol.FromTemplate(template, set.Name, metav1.NewControllerRef(set, kind))
	pod.GenerateName = ""
	pod.Name, pod.Namespace = podName(set, ordinal), set.Namespace
	identify(set, pod, ordinal)
	pod.Spec.Hostname = pod.Name
	pod.Spec.Subdomain = set.Spec.ServiceName
	pod.Labels[apps.ControllerRevisionHashLabelKey] = revision
	mount(set, pod, ordinal)
	return pod
}

func identify(set *apps.StatefulSet, pod *v1.Pod, ordinal int) {
	pod.Labels = maps.Clone(pod.Labels)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[apps.StatefulSetPodNameLabel] = pod.Name
	pod.Labels[apps.PodIndexLabel] = strconv.Itoa(ordinal)
}

// mount puts the set's claims in the place of volumes of the same name.
func mount(set *apps.StatefulSet, pod *v1.Pod, ordinal int) {
	var volumes []v1.Volume
	for i := range set.Spec.VolumeClaimTemplates {
		t := &set.Spec.VolumeClaimTemplates[i]
		volumes = append(volumes, v1.Volume{Name: t.Name, VolumeSource: v1.VolumeSource{
			PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, t, ordinal)},
		}})
	}
	for _, v := range pod.Spec.Volumes {
		if !slices.ContainsFunc(set.Spec.VolumeClaimTemplates, func(t v1.PersistentVolumeClaim) bool { return t.Name == v.Name }) {
			volumes = append(volumes, v)
		}
	}
	pod.Spec.Volumes = volumes
}

// identified says whether the pod carries the labels of its place.
func identified(pod *v1.Pod, ordinal int) bool {
	return pod.Labels[apps.StatefulSetPodNameLabel] == pod.Name && pod.Labels[apps.PodIndexLabel] == strconv.Itoa(ordinal)
}

// NewClaims are the claims of the pod at an ordinal.
func NewClaims(set *apps.StatefulSet, ordinal int) []*v1.PersistentVolumeClaim {
	var out []*v1.PersistentVolumeClaim
	for i := range set.Spec.VolumeClaimTemplates {
		c := set.Spec.VolumeClaimTemplates[i].DeepCopy()
		c.Name, c.Namespace = claimName(set, &set.Spec.VolumeClaimTemplates[i], ordinal), set.Namespace
		labels := maps.Clone(c.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		if set.Spec.Selector != nil {
			maps.Copy(labels, set.Spec.Selector.MatchLabels)
		}
		c.Labels = labels
		out = append(out, c)
	}
	return out
}
