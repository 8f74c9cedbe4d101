package core

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

type namespaceStrategy = resources.TypedStrategy[corev1.Namespace, *corev1.Namespace]

func namespaces() resources.Resource {
	r := clusterScoped("Namespace", "namespaces", "ns")
	r.Verbs = []string{"create", "delete", "get", "list", "patch", "update", "watch"}
	r.Versions = v1(func() runtime.Object { return &corev1.NamespaceList{} }, namespaceDefaults)
	r.Columns = table.Columns(table.Name(), table.Text("Status", "The status of the namespace"), table.Age())
	out := resources.Declare(resources.Spec[corev1.Namespace, *corev1.Namespace]{
		Resource: r,
		Strategy: namespaceStrategy{
			Metadata:                 resources.MetadataRules{NamesOnUpdate: true},
			AllowUnconditionalUpdate: true,
			Validate:                 validateNamespace, ValidateUpdate: validateNamespaceUpdate,
			NameValidation: validation.ValidateNamespaceName,
			PrepareForCreate: func(_ context.Context, ns *corev1.Namespace) {
				ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
				if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
					ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
				}
			},
			PrepareForUpdate: func(_ context.Context, ns, old *corev1.Namespace) {
				ns.Spec.Finalizers = old.Spec.Finalizers
				ns.Status = old.Status
			},
			ResetFields: []string{"status"},
		},
		Views: map[string]namespaceStrategy{
			"status": {
				AllowUnconditionalUpdate: true,
				PrepareForUpdate:         func(_ context.Context, ns, old *corev1.Namespace) { ns.Spec = old.Spec },
				ValidateUpdate:           validateNamespaceStatusUpdate,
				ResetFields:              []string{"spec"},
			},
			"finalize": {
				AllowUnconditionalUpdate: true,
				PrepareForUpdate:         func(_ context.Context, ns, old *corev1.Namespace) { ns.Status = old.Status },
				ValidateUpdate:           validateNamespaceUpdate,
				ResetFields:              []string{"status"},
			},
		},
		SelectableFields: map[string]func(*corev1.Namespace) string{
			"name":         func(ns *corev1.Namespace) string { return ns.Name },
			"status.phase": func(ns *corev1.Namespace) string { return string(ns.Status.Phase) },
		},
		Row: func(ns *corev1.Namespace) []any {
			return []any{ns.Name, string(ns.Status.Phase), table.Since(ns.CreationTimestamp)}
		},
	})
	finalize := out.Subresources["finalize"]
	finalize.Verbs = []string{"update"}
	out.Subresources["finalize"] = finalize
	return out
}

// namespaceDefaults sets the phase and the label that selects a namespace by name.
func namespaceDefaults(ns *corev1.Namespace) {
	if ns.Status.Phase == "" {
		ns.Status.Phase = corev1.NamespaceActive
	}
	if ns.Name != "" {
		if ns.Labels == nil {
			ns.Labels = map[string]string{}
		}
		ns.Labels[corev1.LabelMetadataName] = ns.Name
	}
}
