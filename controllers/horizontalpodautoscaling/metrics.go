package horizontalpodautoscaling

import (
	"context"
	"errors"
	"fmt"
	"time"

	autoscaling "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	metrics "k8s.io/metrics/pkg/client/clientset/versioned"
	custom "k8s.io/metrics/pkg/client/custom_metrics"
	external "k8s.io/metrics/pkg/client/external_metrics"
)

// samples reads a resource's usage of the pods, of one container when named.
func samples(ctx context.Context, client metrics.Interface, resource v1.ResourceName, namespace string, selector labels.Selector, container string) (map[string]Sample, error) {
	list, err := client.MetricsV1beta1().PodMetricses(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from resource metrics API")
	}
	out := map[string]Sample{}
	for _, m := range list.Items {
		s := Sample{At: m.Timestamp.Time, Window: m.Window.Duration}
		found := false
		for _, c := range m.Containers {
			if container != "" && c.Name != container {
				continue
			}
			if q, ok := c.Usage[resource]; ok {
				s.Value += q.MilliValue()
				found = true
			}
		}
		if found {
			out[m.Name] = s
		}
	}
	return out, nil
}

// requests sums what the pods ask for of a resource.
func requests(pods []*v1.Pod, resource v1.ResourceName, container string) (map[string]int64, error) {
	out := map[string]int64{}
	for _, p := range pods {
		if container == "" && p.Spec.Resources != nil {
			if q, ok := p.Spec.Resources.Requests[resource]; ok {
				out[p.Name] = q.MilliValue()
				continue
			}
		}
		var sum int64
		containers := p.Spec.Containers
		for _, c := range p.Spec.InitContainers {
			if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
				containers = append(containers[:len(containers):len(containers)], c)
			}
		}
		for _, c := range containers {
			if container != "" && c.Name != container {
				continue
			}
			q, ok := c.Resources.Requests[resource]
			if !ok {
				return nil, fmt.Errorf("missing request for %s in container %s of Pod %s", resource, c.Name, p.Name)
			}
			sum += q.MilliValue()
		}
		out[p.Name] = sum
	}
	return out, nil
}

// ofPods reads a metric of each pod from the custom metrics API.
func ofPods(client custom.CustomMetricsClient, namespace string, pods labels.Selector, m autoscaling.MetricIdentifier) (map[string]Sample, error) {
	selector, err := metav1.LabelSelectorAsSelector(m.Selector)
	if err != nil {
		return nil, err
	}
	list, err := client.NamespacedMetrics(namespace).GetForObjects(schema.GroupKind{Kind: "Pod"}, pods, m.Name, selector)
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no metrics returned from custom metrics API")
	}
	out := map[string]Sample{}
	for _, item := range list.Items {
		s := Sample{Value: item.Value.MilliValue(), At: item.Timestamp.Time, Window: time.Minute}
		if item.WindowSeconds != nil {
			s.Window = time.Duration(*item.WindowSeconds) * time.Second
		}
		out[item.DescribedObject.Name] = s
	}
	return out, nil
}

// ofObject reads a metric of one object from the custom metrics API. That of a
// Namespace is of the autoscaler's own.
func ofObject(client custom.CustomMetricsClient, namespace string, ref autoscaling.CrossVersionObjectReference, m autoscaling.MetricIdentifier) (int64, error) {
	selector, err := metav1.LabelSelectorAsSelector(m.Selector)
	if err != nil {
		return 0, err
	}
	from, name := client.NamespacedMetrics(namespace), ref.Name
	kind := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
	if kind == (schema.GroupKind{Kind: "Namespace"}) {
		from, name = client.RootScopedMetrics(), namespace
	}
	got, err := from.GetForObject(kind, name, m.Name, selector)
	if err != nil {
		return 0, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	return got.Value.MilliValue(), nil
}

// ofOthers reads the sum of a metric from the external metrics API.
func ofOthers(client external.ExternalMetricsClient, namespace string, m autoscaling.MetricIdentifier) (int64, error) {
	selector, err := metav1.LabelSelectorAsSelector(m.Selector)
	if err != nil {
		return 0, err
	}
	list, err := client.NamespacedMetrics(namespace).List(m.Name, selector)
	if err != nil {
		return 0, fmt.Errorf("unable to fetch metrics from external metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return 0, errors.New("no metrics returned from external metrics API")
	}
	var sum int64
	for _, item := range list.Items {
		sum += item.Value.MilliValue()
	}
	return sum, nil
}
