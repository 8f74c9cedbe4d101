package podtopologyspread

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"skiff/scheduler/framework"
)

// constraint is a parsed topology spread constraint.
type constraint struct {
	maxSkew, minDomains int32
	key                 string
	selector            labels.Selector
	honorAffinity       bool
	honorTaints         bool
}

func labelsOf(p *v1.Pod) labels.Set { return p.Labels }

// counts is true for a pod that the constraint counts; one being deleted does not.
func (c *constraint) counts(p *v1.Pod) bool {
	return p.DeletionTimestamp == nil && c.selector.Matches(labelsOf(p))
}

func (c *constraint) count(pods []*framework.PodInfo, namespace string) int {
	if c.selector.Empty() {
		return 0
	}
	n := 0
	for _, p := range pods {
		if p.Pod.Namespace == namespace && c.counts(p.Pod) {
			n++
		}
	}
	return n
}

// includes tells whether the node's pods are counted under the constraint's policies.
func (c *constraint) includes(pod *v1.Pod, node *v1.Node) bool {
	if c.honorAffinity {
		if match, _ := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); !match {
			return false
		}
	}
	if c.honorTaints {
		if _, bad := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations, func(t *v1.Taint) bool {
			return t.Effect == v1.TaintEffectNoSchedule || t.Effect == v1.TaintEffectNoExecute
		}, true); bad {
			return false
		}
	}
	return true
}

func hasAll(node *v1.Node, cs []constraint) bool {
	for i := range cs {
		if _, ok := node.Labels[cs[i].key]; !ok {
			return false
		}
	}
	return true
}

// parse keeps the constraints with the action.
func parse(pod *v1.Pod, in []v1.TopologySpreadConstraint, action v1.UnsatisfiableConstraintAction) ([]constraint, error) {
	var out []constraint
	for i := range in {
		c := &in[i]
		if c.WhenUnsatisfiable != action {
			continue
		}
		sel, err := metav1.LabelSelectorAsSelector(c.LabelSelector)
		if err != nil {
			return nil, fmt.Errorf("parsing topologySpreadConstraints[%d].labelSelector: %w", i, err)
		}
		for _, key := range c.MatchLabelKeys {
			value, ok := pod.Labels[key]
			if !ok {
				continue
			}
			r, err := labels.NewRequirement(key, selection.In, []string{value})
			if err != nil {
				return nil, fmt.Errorf("parsing topologySpreadConstraints[%d].matchLabelKeys: %w", i, err)
			}
			sel = sel.Add(*r)
		}
		out = append(out, constraint{maxSkew: c.MaxSkew, minDomains: ptr.Deref(c.MinDomains, 1), key: c.TopologyKey, selector: sel,
			honorAffinity: ptr.Deref(c.NodeAffinityPolicy, v1.NodeInclusionPolicyHonor) == v1.NodeInclusionPolicyHonor,
			honorTaints:   ptr.Deref(c.NodeTaintsPolicy, v1.NodeInclusionPolicyIgnore) == v1.NodeInclusionPolicyHonor})
	}
	return out, nil
}

// constraints are the pod's own, or the defaults with the selector of the pod's owners.
func (p *Plugin) constraints(pod *v1.Pod, action v1.UnsatisfiableConstraintAction) ([]constraint, error) {
	if len(pod.Spec.TopologySpreadConstraints) > 0 {
		return parse(pod, pod.Spec.TopologySpreadConstraints, action)
	}
	out, err := parse(pod, p.defaults, action)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	sel := p.ownersSelector(pod)
	if sel.Empty() {
		return nil, nil
	}
	for i := range out {
		out[i].selector = sel
	}
	return out, nil
}

// ownersSelector joins the selectors of the Services and the controller that the pod belongs to.
func (p *Plugin) ownersSelector(pod *v1.Pod) labels.Selector {
	set := labels.Set{}
	inf := p.handle.Informers()
	services, _ := inf.Core().V1().Services().Lister().Services(pod.Namespace).List(labels.Everything())
	for _, s := range services {
		if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labelsOf(pod)) {
			set = labels.Merge(set, s.Spec.Selector)
		}
	}
	sel := labels.NewSelector()
	if len(set) > 0 {
		sel = labels.SelectorFromSet(set)
	}
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return sel
	}
	var more *metav1.LabelSelector
	switch owner.Kind {
	case "ReplicationController":
		if rc, err := inf.Core().V1().ReplicationControllers().Lister().ReplicationControllers(pod.Namespace).Get(owner.Name); err == nil && rc.UID == owner.UID {
			more = &metav1.LabelSelector{MatchLabels: rc.Spec.Selector}
		}
	case "ReplicaSet":
		if rs, err := inf.Apps().V1().ReplicaSets().Lister().ReplicaSets(pod.Namespace).Get(owner.Name); err == nil && rs.UID == owner.UID {
			more = rs.Spec.Selector
		}
	case "StatefulSet":
		if ss, err := inf.Apps().V1().StatefulSets().Lister().StatefulSets(pod.Namespace).Get(owner.Name); err == nil && ss.UID == owner.UID {
			more = ss.Spec.Selector
		}
	}
	if more == nil {
		return sel
	}
	if other, err := metav1.LabelSelectorAsSelector(more); err == nil {
		if rs, ok := other.Requirements(); ok {
			sel = sel.Add(rs...)
		}
	}
	return sel
}
