package horizontalpodautoscaling

import (
	"context"
	"fmt"

	autoscaling "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	metrics "k8s.io/metrics/pkg/client/clientset/versioned"
)

// samples reads a resource's usage of the pods, of one container when named.
func samples(ctx context.Context, client metrics.Interface, resource v1.ResourceName, namespace string, selector labels.Selector, container string) (map[string]Sample, error) {
	list, err := client.MetricsV1beta1().PodMetricses(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no metrics returned from resource metrics API")
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

// measured is what one metric says.
type measured struct {
	replicas int32
	status   autoscaling.MetricStatus
}
