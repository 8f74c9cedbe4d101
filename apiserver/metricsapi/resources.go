// Package metricsapi answers metrics.k8s.io: what nodes and pods use, read from
// the kubelets when somebody asks.
package metricsapi

import (
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"skiff/apiserver/resources"
)

// Connect names the connector of the group's resources.
const Connect resources.Connector = "metrics"

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	nodes := resources.Declare(resources.Spec[metricsv1beta1.NodeMetrics, *metricsv1beta1.NodeMetrics]{Resource: resources.Resource{
		Group: metricsv1beta1.GroupName, Kind: "NodeMetrics", Plural: "nodes", Hub: "v1beta1", Verbs: []string{"get", "list"}, Virtual: Connect,
		Versions: []resources.Version{resources.HubVersion[metricsv1beta1.NodeMetrics]("v1beta1", resources.Empty[metricsv1beta1.NodeMetricsList], nil)},
	}})
	pods := resources.Declare(resources.Spec[metricsv1beta1.PodMetrics, *metricsv1beta1.PodMetrics]{Resource: resources.Resource{
		Group: metricsv1beta1.GroupName, Kind: "PodMetrics", Plural: "pods", Hub: "v1beta1", Namespaced: true, Verbs: []string{"get", "list"}, Virtual: Connect,
		Versions: []resources.Version{resources.HubVersion[metricsv1beta1.PodMetrics]("v1beta1", resources.Empty[metricsv1beta1.PodMetricsList], nil)},
	}})
	return []resources.Resource{nodes, pods}
}
