package horizontalpodautoscaling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"

	"skiff/controllers/podcontrol"
)

// measured is what one metric says. label is its name in conditions and events.
type measured struct {
	replicas int32
	label    string
	status   autoscaling.MetricStatus
}

// measure takes the highest number that any metric asks for; why names that
// metric. Where there is no number, conditions and events say so.
func (c *Controller) measure(ctx context.Context, key string, h *autoscaling.HorizontalPodAutoscaler, s *autoscalingv1.Scale) (n int32, why string, ok bool) {
	c.pick(key, nil)
	inactive := func(event, reason, message, condition string) (int32, string, bool) {
		c.parts.Events.Event(h, v1.EventTypeWarning, event, message)
		c.condition(h, autoscaling.ScalingActive, v1.ConditionFalse, reason, condition)
		return 0, "", false
	}
	if s.Status.Selector == "" {
		return inactive("SelectorRequired", "InvalidSelector", "selector is required", "the HPA target's scale is missing a selector")
	}
	selector, err := labels.Parse(s.Status.Selector)
	if err != nil {
		text := fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err)
		return inactive("InvalidSelector", "InvalidSelector", text, text)
	}
	c.pick(key, selector)
	pods, err := c.pods.Pods(h.Namespace).List(selector)
	if err != nil {
		return inactive("FailedGetPods", "FailedGetPods", err.Error(), err.Error())
	}
	if rivals := c.rivals(h.Namespace, pods); len(rivals) > 1 {
		text := fmt.Sprintf("pods by selector %v are controlled by multiple HPAs: %v", s.Status.Selector, rivals)
		return inactive("AmbiguousSelector", "AmbiguousSelector", text, text)
	}
	r := round{Config: c.config, h: h, selector: selector, pods: pods, current: s.Spec.Replicas, reported: s.Status.Replicas, now: c.parts.Clock.Now()}
	// Readers take the status of a metric by its place.
	h.Status.CurrentMetrics = make([]autoscaling.MetricStatus, len(h.Spec.Metrics))
	var failed []failure
	for i, spec := range h.Spec.Metrics {
		m, err := r.one(ctx, spec)
		if err != nil {
			if c.config.Forget != nil && (spec.Pods != nil || spec.Object != nil) {
				c.config.Forget()
			}
			f := failure{reason: "FailedGet" + string(spec.Type) + "Metric", err: err, whole: inContext(spec, err)}
			c.parts.Events.Event(h, v1.EventTypeWarning, f.reason, err.Error())
			failed = append(failed, f)
			continue
		}
		h.Status.CurrentMetrics[i] = m.status
		if n == 0 || m.replicas > n {
			n, why = m.replicas, m.label
		}
	}
	// With a part of the metrics unknown, growing is safe and shrinking is not.
	if len(failed) > 0 && (len(failed) == len(h.Spec.Metrics) || n < r.current) {
		c.condition(h, autoscaling.ScalingActive, v1.ConditionFalse, failed[0].reason, fmt.Sprintf("the HPA was unable to compute the replica count: %v", failed[0].err))
		c.parts.Events.Eventf(h, v1.EventTypeWarning, "FailedComputeMetricsReplicas", "invalid metrics (%d invalid out of %d), first error is: %v", len(failed), len(h.Spec.Metrics), failed[0].whole)
		return 0, "", false
	}
	return n, why, true
}

// round is what all metrics of an autoscaler are measured against.
type round struct {
	Config
	h        *autoscaling.HorizontalPodAutoscaler
	selector labels.Selector
	pods     []*v1.Pod
	// current is the size that is asked for, reported the one that there is.
	current, reported int32
	now               time.Time
}

// failure is why a metric has no value, and the same with the metric's name.
type failure struct {
	reason     string
	err, whole error
}

func inContext(spec autoscaling.MetricSpec, err error) error {
	switch {
	case spec.Resource != nil:
		return fmt.Errorf("failed to get %s resource metric value: %w", spec.Resource.Name, err)
	case spec.ContainerResource != nil:
		return fmt.Errorf("failed to get %s container metric value: %w", spec.ContainerResource.Container, err)
	case spec.Object != nil:
		return fmt.Errorf("failed to get object metric value: %w", err)
	case spec.Pods != nil:
		return fmt.Errorf("failed to get pods metric value: %w", err)
	case spec.External != nil:
		return fmt.Errorf("failed to get %[1]s external metric value: failed to get %[1]s external metric: %[2]w", spec.External.Metric.Name, err)
	}
	return err
}

// pick notes by which selector the autoscaler finds its pods.
func (c *Controller) pick(key string, selector labels.Selector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if selector == nil {
		delete(c.selectors, key)
		return
	}
	c.selectors[key] = selector
}

// rivals are the autoscalers of the namespace that have one of the pods.
func (c *Controller) rivals(namespace string, pods []*v1.Pod) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var keys []string
	for key, selector := range c.selectors {
		if strings.HasPrefix(key, namespace+"/") && slices.ContainsFunc(pods, func(p *v1.Pod) bool { return selector.Matches(labels.Set(p.Labels)) }) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (r *round) one(ctx context.Context, spec autoscaling.MetricSpec) (measured, error) {
	m := measured{status: autoscaling.MetricStatus{Type: spec.Type}}
	var value autoscaling.MetricValueStatus
	var err error
	switch {
	case spec.Type == autoscaling.ResourceMetricSourceType && spec.Resource != nil:
		s := spec.Resource
		m.label = string(s.Name) + " resource"
		value, err = r.resource(ctx, &m, s.Name, "", s.Target)
		m.status.Resource = &autoscaling.ResourceMetricStatus{Name: s.Name, Current: value}
	case spec.Type == autoscaling.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		s := spec.ContainerResource
		m.label = string(s.Name) + " container resource"
		value, err = r.resource(ctx, &m, s.Name, s.Container, s.Target)
		m.status.ContainerResource = &autoscaling.ContainerResourceMetricStatus{Name: s.Name, Container: s.Container, Current: value}
	case spec.Type == autoscaling.PodsMetricSourceType && spec.Pods != nil:
		s := spec.Pods
		m.label = "pods metric " + s.Metric.Name
		value, err = r.perPod(&m, s.Metric, s.Target)
		m.status.Pods = &autoscaling.PodsMetricStatus{Metric: s.Metric, Current: value}
	case spec.Type == autoscaling.ObjectMetricSourceType && spec.Object != nil:
		s := spec.Object
		m.label = s.DescribedObject.Kind + " metric " + s.Metric.Name
		if s.Target.Value == nil {
			m.label = fmt.Sprintf("external metric %s(%+v)", s.Metric.Name, s.Metric.Selector)
		}
		var got int64
		if got, err = ofObject(r.Custom, r.h.Namespace, s.DescribedObject, s.Metric); err != nil {
			return m, fmt.Errorf("unable to get metric %s: %s on %s %s/%w", s.Metric.Name, s.DescribedObject.Kind, r.h.Namespace, s.DescribedObject.Name, err)
		}
		value, err = r.total(&m, got, s.Target)
		m.status.Object = &autoscaling.ObjectMetricStatus{DescribedObject: s.DescribedObject, Metric: s.Metric, Current: value}
	case spec.Type == autoscaling.ExternalMetricSourceType && spec.External != nil:
		s := spec.External
		m.label = fmt.Sprintf("external metric %s(%+v)", s.Metric.Name, s.Metric.Selector)
		var got int64
		if got, err = ofOthers(r.External, r.h.Namespace, s.Metric); err != nil {
			return m, fmt.Errorf("unable to get external metric %s/%s/%+v: %w", r.h.Namespace, s.Metric.Name, s.Metric.Selector, err)
		}
		value, err = r.total(&m, got, s.Target)
		m.status.External = &autoscaling.ExternalMetricStatus{Metric: s.Metric, Current: value}
	default:
		return m, fmt.Errorf("unknown metric source type %q", spec.Type)
	}
	return m, err
}

var (
	errNoPods    = errors.New("no pods returned by selector while calculating replica count")
	errNoSamples = errors.New("did not receive metrics for targeted pods (pods might be unready)")
)

// resource measures by what pods use of a resource.
func (r *round) resource(ctx context.Context, m *measured, name v1.ResourceName, container string, target autoscaling.MetricTarget) (autoscaling.MetricValueStatus, error) {
	var value autoscaling.MetricValueStatus
	percent := target.AverageValue == nil
	fail := func(err error) (autoscaling.MetricValueStatus, error) {
		if percent {
			return value, fmt.Errorf("failed to get %s utilization: %w", name, err)
		}
		return value, fmt.Errorf("failed to get %s usage: %w", name, err)
	}
	if percent && target.AverageUtilization == nil {
		return value, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	got, err := samples(ctx, r.Metrics, name, r.h.Namespace, r.selector, container)
	if err != nil {
		return fail(fmt.Errorf("unable to get metrics for resource %s: %w", name, err))
	}
	if len(r.pods) == 0 {
		return fail(errNoPods)
	}
	g := Group(r.pods, got, name == v1.ResourceCPU, r.now)
	counted := g.counted(got)
	if len(counted) == 0 {
		return fail(errNoSamples)
	}
	value.AverageValue = resource.NewMilliQuantity(average(counted), resource.DecimalSI)
	if !percent {
		m.replicas = Want(r.current, counted, nil, g, target.AverageValue.MilliValue(), tolerances(r.h))
		return value, nil
	}
	m.label += " utilization (percentage of request)"
	asked, err := requests(r.pods, name, container)
	if err != nil {
		return fail(err)
	}
	used, ok := utilization(counted, asked)
	if !ok {
		return fail(errors.New("no metrics returned matched known pods"))
	}
	value.AverageUtilization = &used
	m.replicas = Want(r.current, counted, asked, g, int64(*target.AverageUtilization), tolerances(r.h))
	return value, nil
}

// perPod measures by what the custom metrics API says of each pod.
func (r *round) perPod(m *measured, metric autoscaling.MetricIdentifier, target autoscaling.MetricTarget) (autoscaling.MetricValueStatus, error) {
	var value autoscaling.MetricValueStatus
	if target.AverageValue == nil {
		return value, errors.New("invalid pods metric source: no average value target was set")
	}
	got, err := ofPods(r.Custom, r.h.Namespace, r.selector, metric)
	if err != nil {
		return value, fmt.Errorf("unable to get metric %s: %w", metric.Name, err)
	}
	if len(r.pods) == 0 {
		return value, errNoPods
	}
	g := Group(r.pods, got, false, r.now)
	counted := g.counted(got)
	if len(counted) == 0 {
		return value, errNoSamples
	}
	value.AverageValue = resource.NewMilliQuantity(average(counted), resource.DecimalSI)
	m.replicas = Want(r.current, counted, nil, g, target.AverageValue.MilliValue(), tolerances(r.h))
	return value, nil
}

// total measures by one value for all pods.
func (r *round) total(m *measured, got int64, target autoscaling.MetricTarget) (autoscaling.MetricValueStatus, error) {
	switch {
	case target.Value != nil:
		ready := 0
		for _, p := range r.pods {
			if c := podcontrol.Condition(&p.Status, v1.PodReady); p.Status.Phase == v1.PodRunning && c != nil && c.Status == v1.ConditionTrue {
				ready++
			}
		}
		if len(r.pods) == 0 && r.current != 0 {
			return autoscaling.MetricValueStatus{}, fmt.Errorf("unable to calculate ready pods: %w", errNoPods)
		}
		m.replicas = WantTotal(r.current, ready, got, target.Value.MilliValue(), tolerances(r.h))
		return autoscaling.MetricValueStatus{Value: resource.NewMilliQuantity(got, resource.DecimalSI)}, nil
	case target.AverageValue != nil:
		m.replicas = WantShared(r.reported, got, target.AverageValue.MilliValue(), tolerances(r.h))
		var each int64
		if r.reported > 0 {
			each = (got + int64(r.reported) - 1) / int64(r.reported)
		}
		return autoscaling.MetricValueStatus{AverageValue: resource.NewMilliQuantity(each, resource.DecimalSI)}, nil
	}
	return autoscaling.MetricValueStatus{}, errors.New("invalid metric source: neither a value target nor an average value target was set")
}
