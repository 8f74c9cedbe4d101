package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

func configMaps() resources.Resource {
	r := namespaced("ConfigMap", "configmaps", "cm")
	r.Versions = v1[corev1.ConfigMap](func() runtime.Object { return &corev1.ConfigMapList{} }, nil)
	r.Columns = table.Columns(table.Name(), table.Text("Data", "Number of items in the map."), table.Age())
	return resources.Declare(resources.Spec[corev1.ConfigMap, *corev1.ConfigMap]{
		Resource: r,
		Strategy: resources.TypedStrategy[corev1.ConfigMap, *corev1.ConfigMap]{
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			Validate:                 validateConfigMap, ValidateUpdate: validateConfigMapUpdate,
		},
		Row: func(c *corev1.ConfigMap) []any {
			return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), table.Since(c.CreationTimestamp)}
		},
	})
}
