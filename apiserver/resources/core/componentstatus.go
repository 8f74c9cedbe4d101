package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

func componentStatuses() resources.Resource {
	r := clusterScoped("ComponentStatus", "componentstatuses", "cs")
	r.Path = ""
	r.Verbs = []string{"get", "list"}
	r.Virtual = resources.ConnectComponentStatus
	r.Versions = v1[corev1.ComponentStatus](func() runtime.Object { return &corev1.ComponentStatusList{} }, nil)
	r.Versions[0].Deprecated = "v1 ComponentStatus is deprecated in v1.19+"
	r.Columns = table.Columns(table.Name(), table.Text("Status", "Status of the component conditions"),
		table.Text("Message", "Message of the component conditions"),
		table.Text("Error", "Error of the component conditions"))
	return resources.Declare(resources.Spec[corev1.ComponentStatus, *corev1.ComponentStatus]{
		Resource: r,
		Row: func(cs *corev1.ComponentStatus) []any {
			status, message, failure := "Unknown", "", ""
			for _, c := range cs.Conditions {
				if c.Type != corev1.ComponentHealthy {
					continue
				}
				if status = "Unhealthy"; c.Status == corev1.ConditionTrue {
					status = "Healthy"
				}
				message, failure = c.Message, c.Error
				break
			}
			return []any{cs.Name, status, message, failure}
		},
	})
}
