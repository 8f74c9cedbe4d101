package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

const hostnameLabel = "kubernetes.io/hostname"

// pinned is a pod that only one node takes, by the scheduler's own choice.
func pinned(name, node string) *corev1.Pod {
	p := probePod(name)
	p.Spec.NodeSelector = map[string]string{hostnameLabel: node}
	return p
}

// refused waits until the scheduler has said that no node takes a pod.
func (s *space) refused(name, why string) {
	s.t.Helper()
	s.eventually(30*time.Second, "pod "+name+" is unschedulable", func() error {
		p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.Spec.NodeName != "" {
			s.t.Fatalf("pod %s went to node %s", name, p.Spec.NodeName)
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable && strings.Contains(c.Message, why) {
				return nil
			}
		}
		return fmt.Errorf("the conditions are %+v, want a refusal that says %q", p.Status.Conditions, why)
	})
	s.eventually(30*time.Second, "an event of the refusal of "+name, func() error {
		events, err := s.client.CoreV1().Events(s.name).List(s.ctx, metav1.ListOptions{FieldSelector: "reason=FailedScheduling,involvedObject.name=" + name})
		if err == nil && (len(events.Items) == 0 || events.Items[0].Type != corev1.EventTypeWarning) {
			err = errors.New("there is none")
		}
		return err
	})
}

// offer adds an extended resource to a node, as its owner would.
func (s *space) offer(node string, name corev1.ResourceName, quantity string) {
	s.t.Helper()
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		n, err := s.client.CoreV1().Nodes().Get(s.ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Status.Capacity[name] = resource.MustParse(quantity)
		_, err = s.client.CoreV1().Nodes().UpdateStatus(s.ctx, n, metav1.UpdateOptions{})
		return err
	}))
	s.t.Cleanup(func() {
		// The node takes it out of what is allocatable by itself.
		patch := fmt.Sprintf(`{"status":{"capacity":{%q:null}}}`, name)
		if _, err := s.client.CoreV1().Nodes().Patch(s.ctx, node, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			s.t.Error(err)
		}
	})
}

// uses makes a pod ask for an extended resource.
func uses(p *corev1.Pod, name corev1.ResourceName, quantity string) *corev1.Pod {
	list := corev1.ResourceList{name: resource.MustParse(quantity)}
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list, Limits: list}
	return p
}

// Conformance: [sig-scheduling] SchedulerPredicates validates resource limits of pods that are allowed to run [Serial]
func TestSchedResources(t *testing.T) {
	s := alone(t)
	free := map[string]int64{}
	for _, n := range s.nodes() {
		free[n.Name] = n.Status.Allocatable.Cpu().MilliValue()
	}
	all, err := s.client.CoreV1().Pods("").List(s.ctx, metav1.ListOptions{FieldSelector: "status.phase!=Succeeded,status.phase!=Failed"})
	s.must(err)
	for _, p := range all.Items {
		for _, c := range p.Spec.Containers {
			free[p.Spec.NodeName] -= c.Resources.Requests.Cpu().MilliValue()
		}
	}
	cpu := func(p *corev1.Pod, milli int64) *corev1.Pod {
		list := corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(milli, resource.DecimalSI)}
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list, Limits: list}
		return p
	}
	least := int64(1 << 40)
	for node, milli := range free {
		delete(free, "")
		if node == "" {
			continue
		}
		filler := milli * 7 / 10
		s.ready(cpu(pinned("filler-"+node, node), filler))
		least = min(least, milli-filler)
	}
	most := int64(0)
	for _, milli := range free {
		most = max(most, milli-milli*7/10)
	}
	s.pod(cpu(probePod("additional"), most+1))
	s.refused("additional", "Insufficient cpu")
	s.ready(cpu(probePod("fits"), least/2))
}

// Conformance: [sig-scheduling] SchedulerPredicates validates that NodeSelector is respected if matching [Serial]
// Conformance: [sig-scheduling] SchedulerPredicates validates that NodeSelector is respected if not matching [Serial]
func TestSchedNodeSelector(t *testing.T) {
	s := parallel(t)
	p := probePod("picky")
	key := "test/" + s.name
	p.Spec.NodeSelector = map[string]string{key: "42"}
	s.pod(p)
	s.refused("picky", "didn't match Pod's node affinity/selector")
	node := s.nodes()[0].Name
	label := func(value any) {
		t.Helper()
		_, err := s.client.CoreV1().Nodes().Patch(s.ctx, node, types.StrategicMergePatchType, s.json(map[string]any{"metadata": map[string]any{"labels": map[string]any{key: value}}}), metav1.PatchOptions{})
		s.must(err)
	}
	label("42")
	defer label(nil)
	// The pod that waits gets its node, and so does a new one.
	for _, name := range []string{"picky", "new"} {
		if name == "new" {
			p.Name = name
			s.pod(p)
		}
		got := s.podIs(name, "Ready", podReady)
		if got.Spec.NodeName != node {
			t.Errorf("pod %s is on %s, want %s", name, got.Spec.NodeName, node)
		}
	}
}

// Conformance: [sig-scheduling] SchedulerPredicates validates that there exists conflict between pods with same hostPort and protocol but one using 0.0.0.0 hostIP [Serial]
func TestSchedHostPortConflict(t *testing.T) {
	s := parallel(t)
	node := s.nodes()[0]
	address := ""
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			address = a.Address
		}
	}
	with := func(name, ip string) *corev1.Pod {
		p := pinned(name, node.Name)
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 54322, HostIP: ip, Protocol: corev1.ProtocolTCP}}
		return p
	}
	s.ready(with("everywhere", ""))
	s.pod(with("here", address))
	s.refused("here", "didn't have free ports for the requested pod ports")
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, "everywhere", metav1.DeleteOptions{}))
	s.podIs("here", "Ready", podReady)
}

// Conformance: [sig-scheduling] LimitRange should list, patch and delete a LimitRange by collection
func TestSchedLimitRangeCollection(t *testing.T) {
	s := parallel(t)
	other := alone(t)
	label := "test=" + s.name
	for _, ns := range []string{s.name, other.name} {
		lr := &corev1.LimitRange{ObjectMeta: named("limits"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Max: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")},
		}}}}
		lr.Labels["test"] = s.name
		_, err := s.client.CoreV1().LimitRanges(ns).Create(s.ctx, lr, metav1.CreateOptions{})
		s.must(err)
	}
	count := func(namespace string, want int) {
		t.Helper()
		list, err := s.client.CoreV1().LimitRanges(namespace).List(s.ctx, metav1.ListOptions{LabelSelector: label})
		s.must(err)
		if len(list.Items) != want {
			t.Errorf("%q has %d limit ranges, want %d", namespace, len(list.Items), want)
		}
	}
	count("", 2)
	patched, err := s.client.CoreV1().LimitRanges(s.name).Patch(s.ctx, "limits", types.StrategicMergePatchType, s.json(map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"limits": "patched"}},
		"spec":     map[string]any{"limits": []any{map[string]any{"type": "Container", "max": map[string]any{"cpu": "600m"}, "min": map[string]any{"cpu": "50m"}}}},
	}), metav1.PatchOptions{})
	s.must(err)
	if got := patched.Spec.Limits; len(got) != 1 || got[0].Min.Cpu().MilliValue() != 50 || got[0].Max.Cpu().MilliValue() != 600 || patched.Labels["limits"] != "patched" {
		t.Errorf("the patched object has %v and %+v", patched.Labels, got)
	}
	s.must(s.client.CoreV1().LimitRanges(s.name).DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "limits=patched"}))
	count(s.name, 0)
	count("", 1)
}

// Conformance: [sig-scheduling] SchedulerPreemption PriorityClass endpoints verify PriorityClass endpoints can be operated with different HTTP methods [Serial]
func TestSchedPriorityClass(t *testing.T) {
	s := parallel(t)
	classes := s.client.SchedulingV1().PriorityClasses()
	first, second := s.priority("a", 1), s.priority("b", 2)
	list, err := classes.List(s.ctx, metav1.ListOptions{})
	s.must(err)
	var names []string
	for _, c := range list.Items {
		names = append(names, c.Name)
	}
	for _, want := range []string{first, second, "system-cluster-critical", "system-node-critical"} {
		if !slices.Contains(names, want) {
			t.Errorf("the list %v lacks %s", names, want)
		}
	}
	for name, change := range map[string]map[string]any{"value": {"value": 42}, "preemptionPolicy": {"preemptionPolicy": "Never"}} {
		_, err := classes.Patch(s.ctx, first, types.StrategicMergePatchType, s.json(change), metav1.PatchOptions{})
		if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("a patch of %s says %v, want a refusal", name, err)
		}
	}
	c, err := classes.Get(s.ctx, first, metav1.GetOptions{})
	s.must(err)
	c.Value *= 10
	if _, err := classes.Update(s.ctx, c, metav1.UpdateOptions{}); err == nil {
		t.Error("an update changed the value")
	}
	_, err = classes.Patch(s.ctx, first, types.JSONPatchType, []byte(`[{"op":"add","path":"/description","value":"patched"}]`), metav1.PatchOptions{})
	s.must(err)
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		c, err := classes.Get(s.ctx, first, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if c.Description != "patched" {
			t.Errorf("the description is %q", c.Description)
		}
		c.Description, c.Annotations = "updated", map[string]string{"updated": "true"}
		c, err = classes.Update(s.ctx, c, metav1.UpdateOptions{})
		if err == nil && (c.Description != "updated" || c.Annotations["updated"] != "true") {
			t.Errorf("the updated class is %+v", c)
		}
		return err
	}))
	s.must(classes.DeleteCollection(s.ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}, metav1.ListOptions{LabelSelector: "test=" + s.name}))
	_, err = classes.Get(s.ctx, first, metav1.GetOptions{})
	s.gone("the class", func() error { return err })
}
