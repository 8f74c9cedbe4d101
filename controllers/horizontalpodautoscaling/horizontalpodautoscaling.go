// Package horizontalpodautoscaling sets the size of workloads by the resources
// that their pods use, and by the numbers that the custom and the external
// metrics API give.
package horizontalpodautoscaling

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	autolisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/scale"
	metrics "k8s.io/metrics/pkg/client/clientset/versioned"
	custom "k8s.io/metrics/pkg/client/custom_metrics"
	external "k8s.io/metrics/pkg/client/external_metrics"
	"k8s.io/utils/ptr"

	"skiff/controllers/loop"
)

const period = 15 * time.Second

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Scales reads and sets sizes. Required.
	Scales scale.ScalesGetter
	// Mapper finds the resource of a kind. Required.
	Mapper meta.RESTMapper
	// Metrics reads usage. Required.
	Metrics metrics.Interface
	// Custom reads what is measured of pods and of other objects. Required.
	Custom custom.CustomMetricsClient
	// Forget is called after a read by Custom failed: the version of that API may
	// have changed. Optional.
	Forget func()
	// External reads what is measured of anything else. Required.
	External external.ExternalMetricsClient
}

// Controller scales workloads.
type Controller struct {
	*loop.Loop
	config  Config
	parts   loop.Parts
	scalers autolisters.HorizontalPodAutoscalerLister
	pods    corelisters.PodLister

	mu        sync.Mutex // guards history and selectors
	history   map[string]*History
	selectors map[string]labels.Selector
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("horizontalpodautoscaling")
	errs := []error{err}
	if c.Scales == nil || c.Mapper == nil || c.Metrics == nil || c.Custom == nil || c.External == nil {
		errs = append(errs, errors.New("horizontalpodautoscaling: Scales, Mapper, Metrics, Custom or External is nil: give all five clients"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	scalers := parts.Informers.Autoscaling().V2().HorizontalPodAutoscalers()
	pods := parts.Informers.Core().V1().Pods()
	h := &Controller{config: c, parts: parts, scalers: scalers.Lister(), pods: pods.Lister(), history: map[string]*History{}, selectors: map[string]labels.Selector{}}
	h.Loop = loop.New("horizontalpodautoscaling", parts, h.sync)
	h.On(scalers.Informer(), loop.Handlers(
		func(o *autoscaling.HorizontalPodAutoscaler) { h.Enqueue(o) },
		func(old, o *autoscaling.HorizontalPodAutoscaler) {
			if old.Generation != o.Generation || !equality.Semantic.DeepEqual(old.Spec, o.Spec) {
				h.Enqueue(o)
			}
		},
		func(o *autoscaling.HorizontalPodAutoscaler) { h.Enqueue(o) }))
	h.Reads(pods.Informer())
	return h, nil
}

func (c *Controller) past(key string) *History {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.history[key] == nil {
		c.history[key] = &History{}
	}
	return c.history[key]
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	shared, err := c.scalers.HorizontalPodAutoscalers(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		c.mu.Lock()
		delete(c.history, key)
		delete(c.selectors, key)
		c.mu.Unlock()
		return nil
	}
	if err != nil {
		return err
	}
	h := shared.DeepCopy()
	c.reconcile(ctx, key, h)
	h.Status.ObservedGeneration = ptr.To(h.Generation)
	c.AddAfter(key, period)
	if equality.Semantic.DeepEqual(shared.Status, h.Status) {
		return nil
	}
	_, err = c.parts.Client.AutoscalingV2().HorizontalPodAutoscalers(namespace).UpdateStatus(ctx, h, metav1.UpdateOptions{})
	return err
}

func (c *Controller) condition(h *autoscaling.HorizontalPodAutoscaler, kind autoscaling.HorizontalPodAutoscalerConditionType, status v1.ConditionStatus, reason, message string) {
	for i := range h.Status.Conditions {
		o := &h.Status.Conditions[i]
		if o.Type != kind {
			continue
		}
		if o.Status != status {
			o.LastTransitionTime = metav1.NewTime(c.parts.Clock.Now())
		}
		o.Status, o.Reason, o.Message = status, reason, message
		return
	}
	h.Status.Conditions = append(h.Status.Conditions, autoscaling.HorizontalPodAutoscalerCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(c.parts.Clock.Now()),
	})
}

// reconcile is one round; what goes wrong shows in conditions and events.
func (c *Controller) reconcile(ctx context.Context, key string, h *autoscaling.HorizontalPodAutoscaler) {
	target, s, err := c.scale(ctx, h)
	if err != nil {
		c.parts.Events.Event(h, v1.EventTypeWarning, "FailedGetScale", err.Error())
		c.condition(h, autoscaling.AbleToScale, v1.ConditionFalse, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", err))
		return
	}
	c.condition(h, autoscaling.AbleToScale, v1.ConditionTrue, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	current := s.Spec.Replicas
	h.Status.CurrentReplicas = s.Status.Replicas
	low := ptr.Deref(h.Spec.MinReplicas, 1)
	var decided Decision
	reason := ""
	switch {
	case current == 0 && low != 0:
		c.condition(h, autoscaling.ScalingActive, v1.ConditionFalse, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		h.Status.DesiredReplicas = 0
		return
	case current > h.Spec.MaxReplicas:
		decided, reason = Decision{Replicas: h.Spec.MaxReplicas}, "Current number of replicas above Spec.MaxReplicas"
	case current < low:
		decided, reason = Decision{Replicas: low}, "Current number of replicas below Spec.MinReplicas"
	default:
		wanted, why, ok := c.measure(ctx, key, h, s)
		if !ok {
			return
		}
		c.condition(h, autoscaling.ScalingActive, v1.ConditionTrue, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+why)
		decided = Behave(h, current, wanted, c.past(key), c.parts.Clock.Now())
		switch decided.Stabilized {
		case "":
			c.condition(h, autoscaling.AbleToScale, v1.ConditionTrue, "ReadyForNewScale", "recommended size matches current size")
		case "ScaleDownStabilized":
			c.condition(h, autoscaling.AbleToScale, v1.ConditionTrue, decided.Stabilized, "recent recommendations were higher than current one, applying the highest recent recommendation")
		default:
			c.condition(h, autoscaling.AbleToScale, v1.ConditionTrue, decided.Stabilized, "recent recommendations were lower than current one, applying the lowest recent recommendation")
		}
		if decided.Limited {
			c.condition(h, autoscaling.ScalingLimited, v1.ConditionTrue, decided.LimitedReason, decided.LimitedMessage)
		} else {
			c.condition(h, autoscaling.ScalingLimited, v1.ConditionFalse, "DesiredWithinRange", "the desired count is within the acceptable range")
		}
		if reason = "All metrics below target"; decided.Replicas > current {
			reason = why + " above target"
		}
	}
	h.Status.DesiredReplicas = decided.Replicas
	if decided.Replicas == current {
		return
	}
	s.Spec.Replicas = decided.Replicas
	if _, err := c.config.Scales.Scales(h.Namespace).Update(ctx, target, s, metav1.UpdateOptions{}); err != nil {
		c.parts.Events.Eventf(h, v1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", decided.Replicas, reason, err)
		c.condition(h, autoscaling.AbleToScale, v1.ConditionFalse, "FailedUpdateScale", fmt.Sprintf("the HPA controller was unable to update the target scale: %v", err))
		h.Status.DesiredReplicas = current
		return
	}
	now := c.parts.Clock.Now()
	c.condition(h, autoscaling.AbleToScale, v1.ConditionTrue, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", decided.Replicas))
	c.parts.Events.Eventf(h, v1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", decided.Replicas, reason)
	past := c.past(key)
	if d := decided.Replicas - current; d > 0 {
		past.Ups = recent(append(past.Ups, Change{d, now}), now)
	} else {
		past.Downs = recent(append(past.Downs, Change{-d, now}), now)
	}
	h.Status.LastScaleTime = &metav1.Time{Time: now}
}

// scale finds what the autoscaler scales. The version of the reference does not
// matter: all versions of a kind have the same size.
func (c *Controller) scale(ctx context.Context, h *autoscaling.HorizontalPodAutoscaler) (schema.GroupResource, *autoscalingv1.Scale, error) {
	ref := h.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return schema.GroupResource{}, nil, err
	}
	mappings, err := c.config.Mapper.RESTMappings(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
	if err != nil {
		return schema.GroupResource{}, nil, err
	}
	var first error
	for _, m := range mappings {
		target := m.Resource.GroupResource()
		s, err := c.config.Scales.Scales(h.Namespace).Get(ctx, target, ref.Name, metav1.GetOptions{})
		if err == nil {
			return target, s, nil
		}
		if first == nil {
			first = err
		}
	}
	return schema.GroupResource{}, nil, first
}

// recent drops changes that no policy can look back on.
func recent(changes []Change, now time.Time) []Change {
	for len(changes) > 0 && changes[0].At.Before(now.Add(-30*time.Minute)) {
		changes = changes[1:]
	}
	return changes
}
