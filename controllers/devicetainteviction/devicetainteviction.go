// Package devicetainteviction deletes pods whose devices have NoExecute taints,
// of their driver or of a DeviceTaintRule, that their claims do not tolerate, when
// the toleration's time is over.
package devicetainteviction

import (
	"context"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	corelisters "k8s.io/client-go/listers/core/v1"
	resourcelisters "k8s.io/client-go/listers/resource/v1"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/utils/ptr"

	"skiff/controllers/loop"
	"skiff/controllers/podcontrol"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller evicts pods.
type Controller struct {
	*loop.Loop
	parts  loop.Parts
	pods   corelisters.PodLister
	claims resourcelisters.ResourceClaimLister
	slices resourcelisters.ResourceSliceLister
	rules  resourcelisters.DeviceTaintRuleLister

	mu sync.Mutex
	// evicted are the pods that went for a rule: a late cache shows one that went as if
	// it had still to go; guarded by mu.
	evicted map[types.UID]sets.Set[types.UID]
}

// rulePrefix tells the keys of rules from those of claims.
const rulePrefix = "rule:"

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("device-taint-eviction-controller")
	if err != nil {
		return nil, err
	}
	core, group := parts.Informers.Core().V1(), parts.Informers.Resource().V1()
	t := &Controller{
		parts: parts, pods: core.Pods().Lister(), claims: group.ResourceClaims().Lister(),
		slices: group.ResourceSlices().Lister(), rules: group.DeviceTaintRules().Lister(), evicted: map[types.UID]sets.Set[types.UID]{},
	}
	t.Loop = loop.New("device-taint-eviction-controller", parts, t.sync)
	t.On(group.ResourceClaims().Informer(), loop.Changed(func(o *resourceapi.ResourceClaim) { t.Enqueue(o); t.report() }))
	t.On(group.ResourceSlices().Informer(), loop.Each(func(*resourceapi.ResourceSlice) { t.all() }))
	t.On(group.DeviceTaintRules().Informer(), loop.Each(func(*resourceapi.DeviceTaintRule) { t.all(); t.report() }))
	t.On(core.Pods().Informer(), loop.Handlers(nil, func(old, o *v1.Pod) {
		if !podcontrol.Terminal(old) && podcontrol.Terminal(o) {
			t.ended(o)
		}
	}, t.ended))
	return t, nil
}

// all looks at every claim in use.
func (c *Controller) all() {
	list, err := c.claims.List(labels.Everything())
	if err != nil {
		return
	}
	for _, o := range list {
		if o.Status.Allocation != nil && len(o.Status.ReservedFor) > 0 {
			c.Enqueue(o)
		}
	}
}

// ended looks at the rules that a pod may have had to go for.
func (c *Controller) ended(pod *v1.Pod) {
	for range resourceclaim.PodClaims(pod) {
		c.report()
		return
	}
}

// report has the rules tell what they do.
func (c *Controller) report() {
	list, err := c.rules.List(labels.Everything())
	if err != nil {
		return
	}
	for _, rule := range list {
		c.Add(rulePrefix + rule.Name)
	}
}

func (c *Controller) sync(ctx context.Context, key string) error {
	if name, ok := strings.CutPrefix(key, rulePrefix); ok {
		return c.syncRule(ctx, name)
	}
	namespace, name := loop.Split(key)
	claim, err := c.claims.ResourceClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Status.Allocation == nil {
		return nil
	}
	slices, err := c.slices.List(labels.Everything())
	if err != nil {
		return err
	}
	rules, err := c.rules.List(labels.Everything())
	if err != nil {
		return err
	}
	end, evicts := End(claim.Status.Allocation, slices, rules)
	if !evicts {
		return nil
	}
	now := c.parts.Clock.Now()
	if left := end.Sub(now); left > 0 {
		c.AddAfter(key, left)
		return nil
	}
	for _, user := range claim.Status.ReservedFor {
		if user.APIGroup != "" || user.Resource != "pods" {
			continue
		}
		if err := c.evict(ctx, namespace, user, causes(claim.Status.Allocation, rules), now); err != nil {
			return err
		}
	}
	return nil
}

// End is when the users of an allocation have to go; false means never.
func End(a *resourceapi.AllocationResult, slices []*resourceapi.ResourceSlice, rules []*resourceapi.DeviceTaintRule) (end time.Time, evicts bool) {
	for i := range a.Devices.Results {
		r := &a.Devices.Results[i]
		for _, t := range taints(r, slices, rules) {
			if t.Effect != resourceapi.DeviceTaintEffectNoExecute {
				continue
			}
			patience, bounded := patience(t, r.Tolerations)
			if !bounded {
				continue
			}
			if at := ptr.Deref(t.TimeAdded, metav1.Time{}).Add(patience); !evicts || at.Before(end) {
				end, evicts = at, true
			}
		}
	}
	return end, evicts
}

// taints are those of an allocated device.
func taints(r *resourceapi.DeviceRequestAllocationResult, slices []*resourceapi.ResourceSlice, rules []*resourceapi.DeviceTaintRule) []resourceapi.DeviceTaint {
	var out []resourceapi.DeviceTaint
	for _, s := range slices {
		if s.Spec.Driver != r.Driver || s.Spec.Pool.Name != r.Pool {
			continue
		}
		for i := range s.Spec.Devices {
			if s.Spec.Devices[i].Name == r.Device {
				out = append(out, s.Spec.Devices[i].Taints...)
			}
		}
	}
	for _, rule := range rules {
		if selects(rule, r.Driver, r.Pool, r.Device) {
			out = append(out, rule.Spec.Taint)
		}
	}
	return out
}

// patience is how long a taint is tolerated; bounded is false when it is for
// ever.
func patience(t resourceapi.DeviceTaint, tolerations []resourceapi.DeviceToleration) (d time.Duration, bounded bool) {
	for _, tolerates := range tolerations {
		if !resourceclaim.ToleratesTaint(tolerates, t) {
			continue
		}
		if tolerates.TolerationSeconds == nil {
			return 0, false
		}
		d = max(d, time.Duration(max(0, *tolerates.TolerationSeconds))*time.Second)
	}
	return d, true
}

// evict says in the pod's status why it goes, then deletes it.
func (c *Controller) evict(ctx context.Context, namespace string, user resourceapi.ResourceClaimConsumerReference, rules []*resourceapi.DeviceTaintRule, now time.Time) error {
	pod, err := c.pods.Pods(namespace).Get(user.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if pod.UID != user.UID || pod.DeletionTimestamp != nil || !runs(pod) {
		return nil
	}
	c.parts.Events.Eventf(pod, v1.EventTypeNormal, "DeviceTaintManagerEviction", "Marking for deletion")
	client := c.parts.Client.CoreV1().Pods(namespace)
	if err := podcontrol.Disrupt(ctx, client, pod, "DeletionByDeviceTaintManager", "Device Taint manager: deleting due to NoExecute taint", now); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rule := range rules {
		if c.evicted[rule.UID] == nil {
			c.evicted[rule.UID] = sets.New[types.UID]()
		}
		c.evicted[rule.UID].Insert(pod.UID)
		c.Add(rulePrefix + rule.Name)
	}
	return nil
}

func runs(pod *v1.Pod) bool { return pod.Spec.NodeName != "" && !podcontrol.Terminal(pod) }
