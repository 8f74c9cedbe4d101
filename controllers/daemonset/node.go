package daemonset

import (
	"slices"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	scheduling "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"skiff/controllers/podcontrol"
)

// NewPod is the pod of a DaemonSet for a node.
func NewPod(ds *apps.DaemonSet, node, hash string) *v1.Pod {
	pod := podcontrol.FromTemplate(&ds.Spec.Template, ds.Name, metav1.NewControllerRef(ds, kind))
	if hash != "" {
		pod.Labels[apps.ControllerRevisionHashLabelKey] = hash
	}
	if g := ds.Annotations[apps.DeprecatedTemplateGeneration]; g != "" {
		pod.Labels["pod-template-generation"] = g
	}
	pod.Namespace = ds.Namespace
	pinTo(pod, node)
	tolerate(&pod.Spec)
	return pod
}

// pinTo leaves the scheduler one node to choose.
func pinTo(pod *v1.Pod, node string) {
	field := []v1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: v1.NodeSelectorOpIn, Values: []string{node}}}
	if pod.Spec.Affinity == nil {
		pod.Spec.Affinity = &v1.Affinity{}
	}
	if pod.Spec.Affinity.NodeAffinity == nil {
		pod.Spec.Affinity.NodeAffinity = &v1.NodeAffinity{}
	}
	// The template's own terms were checked before the node was chosen.
	pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &v1.NodeSelector{
		NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchFields: field}},
	}
}

// tolerate lets daemons run on nodes that are in trouble: they are part of them.
func tolerate(spec *v1.PodSpec) {
	add := func(key string, effect v1.TaintEffect) {
		t := v1.Toleration{Key: key, Operator: v1.TolerationOpExists, Effect: effect}
		for i := range spec.Tolerations {
			if spec.Tolerations[i].MatchToleration(&t) {
				return
			}
		}
		spec.Tolerations = append(spec.Tolerations, t)
	}
	add(v1.TaintNodeNotReady, v1.TaintEffectNoExecute)
	add(v1.TaintNodeUnreachable, v1.TaintEffectNoExecute)
	add(v1.TaintNodeDiskPressure, v1.TaintEffectNoSchedule)
	add(v1.TaintNodeMemoryPressure, v1.TaintEffectNoSchedule)
	add(v1.TaintNodePIDPressure, v1.TaintEffectNoSchedule)
	add(v1.TaintNodeUnschedulable, v1.TaintEffectNoSchedule)
	if spec.HostNetwork {
		add(v1.TaintNodeNetworkUnavailable, v1.TaintEffectNoSchedule)
	}
}

// Fits says whether the node should get a pod of the set, and whether one that
// is there may stay.
func Fits(ds *apps.DaemonSet, node *v1.Node) (run, stay bool) {
	pod := &v1.Pod{Spec: *ds.Spec.Template.Spec.DeepCopy()}
	pod.Namespace, pod.Labels = ds.Namespace, ds.Spec.Template.Labels
	if pod.Spec.NodeName != "" && pod.Spec.NodeName != node.Name {
		return false, false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return false, false
	}
	tolerate(&pod.Spec)
	untolerated := func(effects ...v1.TaintEffect) bool {
		_, found := scheduling.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations,
			func(t *v1.Taint) bool { return slices.Contains(effects, t.Effect) }, true)
		return found
	}
	run = !untolerated(v1.TaintEffectNoExecute, v1.TaintEffectNoSchedule)
	return run, run || !untolerated(v1.TaintEffectNoExecute)
}

// target is the node that the pod is on, or is meant for.
func target(pod *v1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	a := pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && f.Operator == v1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}
