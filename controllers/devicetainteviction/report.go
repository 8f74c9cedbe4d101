package devicetainteviction

import (
	"context"
	"fmt"
	"maps"
	"strings"

	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/ptr"
)

// selects tells whether a rule is about a device.
func selects(rule *resourceapi.DeviceTaintRule, driver, pool, device string) bool {
	s := rule.Spec.DeviceSelector
	return s != nil && ptr.Deref(s.Driver, driver) == driver && ptr.Deref(s.Pool, pool) == pool && ptr.Deref(s.Device, device) == device
}

// causes are the rules for which the users of an allocation have to go.
func causes(a *resourceapi.AllocationResult, rules []*resourceapi.DeviceTaintRule) []*resourceapi.DeviceTaintRule {
	var out []*resourceapi.DeviceTaintRule
	for _, rule := range rules {
		if _, evicts := End(a, nil, []*resourceapi.DeviceTaintRule{rule}); evicts {
			out = append(out, rule)
		}
	}
	return out
}

// Reach is what a rule is about.
type Reach struct {
	// Published and Allocated are devices.
	Published, Allocated int
	// Pods have to go if the effect is NoExecute; Namespaces are theirs.
	Pods, Namespaces int
}

// Look finds what a rule is about. running finds a pod that runs on a node.
func Look(rule *resourceapi.DeviceTaintRule, slices []*resourceapi.ResourceSlice, claims []*resourceapi.ResourceClaim, running func(namespace, name string, uid types.UID) bool) Reach {
	var out Reach
	for _, s := range slices {
		for i := range s.Spec.Devices {
			if selects(rule, s.Spec.Driver, s.Spec.Pool.Name, s.Spec.Devices[i].Name) {
				out.Published++
			}
		}
	}
	// What it would be if it evicted.
	strict := *rule
	strict.Spec.Taint.Effect = resourceapi.DeviceTaintEffectNoExecute
	pods, namespaces, devices := map[types.UID]bool{}, map[string]bool{}, map[string]bool{}
	for _, claim := range claims {
		a := claim.Status.Allocation
		if a == nil {
			continue
		}
		for _, r := range a.Devices.Results {
			if selects(rule, r.Driver, r.Pool, r.Device) {
				devices[strings.Join([]string{r.Driver, r.Pool, r.Device}, "\x00")] = true
			}
		}
		if _, evicts := End(a, nil, []*resourceapi.DeviceTaintRule{&strict}); !evicts {
			continue
		}
		for _, user := range claim.Status.ReservedFor {
			if user.APIGroup == "" && user.Resource == "pods" && running(claim.Namespace, user.Name, user.UID) {
				pods[user.UID], namespaces[claim.Namespace] = true, true
			}
		}
	}
	out.Allocated, out.Pods, out.Namespaces = len(devices), len(pods), len(namespaces)
	return out
}

// pending is the reason of the condition while pods have to go.
const pending = "PodsPendingEviction"

// Condition is what a rule's status says; evicted pods went for it.
func Condition(rule *resourceapi.DeviceTaintRule, r Reach, evicted int) metav1.Condition {
	out := metav1.Condition{Type: resourceapi.DeviceTaintConditionEvictionInProgress, Status: metav1.ConditionFalse, ObservedGeneration: rule.Generation}
	where := fmt.Sprintf("in %s", count(r.Namespaces, "namespace"))
	went := fmt.Sprintf("%s evicted since starting the controller.", count(evicted, "pod"))
	switch {
	case rule.Spec.Taint.Effect == resourceapi.DeviceTaintEffectNone:
		out.Reason = "NoEffect"
		out.Message = fmt.Sprintf("%s selected. %s selected. %s would be evicted %s if the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.",
			count(r.Published, "published device"), count(r.Allocated, "allocated device"), count(r.Pods, "pod"), where)
	case rule.Spec.Taint.Effect != resourceapi.DeviceTaintEffectNoExecute:
		out.Reason, out.Message = "NotNeeded", fmt.Sprintf("The effect %s evicts no pods.", rule.Spec.Taint.Effect)
	case r.Pods > 0:
		out.Status, out.Reason = metav1.ConditionTrue, pending
		out.Message = fmt.Sprintf("%s to be evicted %s. %s", count(r.Pods, "pod"), where, went)
	default:
		out.Reason, out.Message = "Completed", went
	}
	return out
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// syncRule writes into a rule's status what it does.
func (c *Controller) syncRule(ctx context.Context, name string) error {
	rule, err := c.rules.Get(name)
	if apierrors.IsNotFound(err) {
		return c.forgetRules()
	}
	if err != nil {
		return err
	}
	was := meta.FindStatusCondition(rule.Status.Conditions, resourceapi.DeviceTaintConditionEvictionInProgress)
	if was != nil && rule.Spec.Taint.Effect == resourceapi.DeviceTaintEffectNone && was.ObservedGeneration == rule.Generation {
		return nil
	}
	if rule.Spec.Taint.Effect == resourceapi.DeviceTaintEffectNoSchedule && (was == nil || was.Reason != pending) {
		return nil // it has nothing to evict
	}
	list, err := c.slices.List(labels.Everything())
	if err != nil {
		return err
	}
	claims, err := c.claims.List(labels.Everything())
	if err != nil {
		return err
	}
	c.mu.Lock()
	evicted := c.evicted[rule.UID].Len()
	c.mu.Unlock()
	next := rule.DeepCopy()
	reach := Look(rule, list, claims, func(namespace, name string, uid types.UID) bool {
		pod, err := c.pods.Pods(namespace).Get(name)
		return err == nil && pod.UID == uid && runs(pod)
	})
	if !meta.SetStatusCondition(&next.Status.Conditions, Condition(rule, reach, evicted)) {
		return nil
	}
	_, err = c.parts.Client.ResourceV1().DeviceTaintRules().UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

// forgetRules drops the counts of rules that are gone.
func (c *Controller) forgetRules() error {
	list, err := c.rules.List(labels.Everything())
	if err != nil {
		return err
	}
	known := map[types.UID]bool{}
	for _, rule := range list {
		known[rule.UID] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.evicted, func(uid types.UID, _ sets.Set[types.UID]) bool { return !known[uid] })
	return nil
}
