package core

import (
	"context"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type quotaStrategy = resources.TypedStrategy[corev1.ResourceQuota, *corev1.ResourceQuota]

func resourceQuotas() resources.Resource {
	r := namespaced("ResourceQuota", "resourcequotas", "quota")
	r.Versions = v1(func() runtime.Object { return &corev1.ResourceQuotaList{} }, func(q *corev1.ResourceQuota) {
		podspec.RoundResources(q.Spec.Hard)
		podspec.RoundResources(q.Status.Hard)
		podspec.RoundResources(q.Status.Used)
	})
	r.Columns = table.Columns(table.Name(),
		table.Text("Request", "What is requested of each resource, and how much may be."),
		table.Text("Limit", "What the limits of each resource add up to, and may."), table.Age())
	return resources.Declare(resources.Spec[corev1.ResourceQuota, *corev1.ResourceQuota]{
		Resource: r,
		Strategy: quotaStrategy{
			AllowUnconditionalUpdate: true,
			Validate:                 validateQuota, ValidateUpdate: validateQuotaUpdate,
			PrepareForCreate: func(_ context.Context, q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} },
			PrepareForUpdate: func(_ context.Context, q, old *corev1.ResourceQuota) { q.Status = old.Status },
			ResetFields:      []string{"status"},
		},
		Views: map[string]quotaStrategy{"status": {
			AllowUnconditionalUpdate: true,
			PrepareForUpdate:         func(_ context.Context, q, old *corev1.ResourceQuota) { q.Spec = old.Spec },
			ValidateUpdate:           validateQuotaStatusUpdate,
			ResetFields:              []string{"spec"},
		}},
		Row: quotaRow,
	})
}

func quotaRow(q *corev1.ResourceQuota) []any {
	names := make([]string, 0, len(q.Status.Hard))
	for name := range q.Status.Hard {
		names = append(names, string(name))
	}
	sort.Strings(names)
	var requests, limits []string
	for _, name := range names {
		used, hard := q.Status.Used[corev1.ResourceName(name)], q.Status.Hard[corev1.ResourceName(name)]
		cell := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(name, "limits") {
			limits = append(limits, cell)
		} else {
			requests = append(requests, cell)
		}
	}
	return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), table.Since(q.CreationTimestamp)}
}
