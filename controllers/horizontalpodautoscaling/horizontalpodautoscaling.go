// Package horizontalpodautoscaling sets the size of workloads by the resources
// that their pods use.
package horizontalpodautoscaling

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	autoscaling "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	autolisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/scale"
	metrics "k8s.io/metrics/pkg/client/clientset/versioned"
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
}

// Controller scales workloads.
type Controller struct {
	*loop.Loop
	config  Config
	parts   loop.Parts
	scalers autolisters.HorizontalPodAutoscalerLister
	pods    corelisters.PodLister

	mu      sync.Mutex // guards history
	history map[string]*History
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("horizontalpodautoscaling")
	errs := []error{err}
	if c.Scales == nil || c.Mapper == nil || c.Metrics == nil {
		errs = append(errs, errors.New("horizontalpodautoscaling: Scales, Mapper or Metrics is nil: give all three clients"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	scalers := parts.Informers.Autoscaling().V2().HorizontalPodAutoscalers()
	pods := parts.Informers.Core().V1().Pods()
	h := &Controller{config: c, parts: parts, scalers: scalers.Lister(), pods: pods.Lister(), history: map[string]*History{}}
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
	fail := func(kind autoscaling.HorizontalPodAutoscalerConditionType, reason, message string) {
		c.parts.Events.Event(h, v1.EventTypeWarning, reason, message)
		c.condition(h, kind, v1.ConditionFalse, reason, message)
	}
	ref := h.Spec.ScaleTargetRef
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		fail(autoscaling.AbleToScale, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: invalid API version in scale target reference: %v", err))
		return
	}
	mapping, err := c.config.Mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: ref.Kind}, gv.Version)
	if err != nil {
		fail(autoscaling.AbleToScale, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: unable to determine resource for scale target reference: %v", err))
		return
	}
	target := mapping.Resource.GroupResource()
	s, err := c.config.Scales.Scales(h.Namespace).Get(ctx, target, ref.Name, metav1.GetOptions{})
	if err != nil {
		fail(autoscaling.AbleToScale, "FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", err))
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
		wanted, why, err := c.measure(ctx, h, s.Status.Selector, current)
		if err != nil {
			fail(autoscaling.ScalingActive, why, fmt.Sprintf("the HPA was unable to compute the replica count: %v", err))
			h.Status.DesiredReplicas = current
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

// recent drops changes that no policy can look back on.
func recent(changes []Change, now time.Time) []Change {
	for len(changes) > 0 && changes[0].At.Before(now.Add(-30*time.Minute)) {
		changes = changes[1:]
	}
	return changes
}

// measure takes the highest number that any metric asks for. why names the
// metric, or the reason of the failure.
func (c *Controller) measure(ctx context.Context, h *autoscaling.HorizontalPodAutoscaler, raw string, current int32) (n int32, why string, err error) {
	if raw == "" {
		return 0, "InvalidSelector", errors.New("selector is required")
	}
	selector, err := labels.Parse(raw)
	if err != nil {
		return 0, "InvalidSelector", fmt.Errorf("couldn't convert selector into a corresponding internal selector object: %w", err)
	}
	pods, err := c.pods.Pods(h.Namespace).List(selector)
	if err != nil {
		return 0, "FailedGetPods", err
	}
	h.Status.CurrentMetrics = nil
	var failure error
	failed := ""
	for _, spec := range h.Spec.Metrics {
		m, label, reason, err := c.one(ctx, h.Namespace, selector, pods, spec, current)
		if err != nil {
			failure, failed = errors.Join(failure, err), reason
			c.parts.Events.Event(h, v1.EventTypeWarning, reason, err.Error())
			continue
		}
		h.Status.CurrentMetrics = append(h.Status.CurrentMetrics, m.status)
		if why == "" || m.replicas > n {
			n, why = m.replicas, label
		}
	}
	// With a part of the metrics unknown, growing is safe and shrinking is not.
	if failure != nil && (why == "" || n < current) {
		return 0, failed, failure
	}
	return n, why, nil
}

func (c *Controller) one(ctx context.Context, namespace string, selector labels.Selector, pods []*v1.Pod, spec autoscaling.MetricSpec, current int32) (m measured, label, reason string, err error) {
	var name v1.ResourceName
	var target autoscaling.MetricTarget
	container := ""
	switch {
	case spec.Type == autoscaling.ResourceMetricSourceType && spec.Resource != nil:
		name, target, label, reason = spec.Resource.Name, spec.Resource.Target, string(spec.Resource.Name)+" resource", "FailedGetResourceMetric"
	case spec.Type == autoscaling.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		name, target, container = spec.ContainerResource.Name, spec.ContainerResource.Target, spec.ContainerResource.Container
		label, reason = string(name)+" container resource", "FailedGetContainerResourceMetric"
	default:
		return m, "", "FailedGet" + string(spec.Type) + "Metric", fmt.Errorf("unable to fetch metrics of type %s: no API server serves custom or external metrics", spec.Type)
	}
	got, err := samples(ctx, c.config.Metrics, name, namespace, selector, container)
	if err != nil {
		return m, label, reason, fmt.Errorf("failed to get %s utilization: %w", name, err)
	}
	g := Group(pods, got, name == v1.ResourceCPU, c.parts.Clock.Now())
	if g.Ready == 0 && len(g.Missing) == len(pods) {
		return m, label, reason, fmt.Errorf("failed to get %s utilization: did not receive metrics for targeted pods (pods might be unready)", name)
	}
	value := autoscaling.MetricValueStatus{}
	var sum int64
	for _, s := range got {
		sum += s.Value
	}
	if len(got) > 0 {
		value.AverageValue = resource.NewMilliQuantity(sum/int64(len(got)), resource.DecimalSI)
	}
	if target.AverageUtilization != nil {
		asked, err := requests(pods, name, container)
		if err != nil {
			return m, label, reason, fmt.Errorf("failed to get %s utilization: %w", name, err)
		}
		label += " utilization (percentage of request)"
		m.replicas = Want(current, got, asked, g, float64(*target.AverageUtilization)/100)
		var total int64
		for pod := range got {
			total += asked[pod]
		}
		if total > 0 {
			value.AverageUtilization = ptr.To(int32(sum * 100 / total))
		}
	} else if target.AverageValue != nil {
		m.replicas = Want(current, got, nil, g, float64(target.AverageValue.MilliValue()))
	} else {
		return m, label, reason, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	m.status.Type = spec.Type
	if container == "" {
		m.status.Resource = &autoscaling.ResourceMetricStatus{Name: name, Current: value}
	} else {
		m.status.ContainerResource = &autoscaling.ContainerResourceMetricStatus{Name: name, Container: container, Current: value}
	}
	return m, label, "", nil
}
