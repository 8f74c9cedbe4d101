package resourcequota

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/admission"
	"skiff/quota"
)

// What is limited needs a quota that covers it.
//
// Covers: api.admission-default
func TestLimited(t *testing.T) {
	l, err := readLimits([]byte(`apiVersion: apiserver.config.k8s.io/v1
kind: ResourceQuotaConfiguration
limitedResources:
- resource: pods
  matchContains: [cpu]
  matchScopes: [{scopeName: PriorityClass, operator: In, values: [top]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	hard := func(names ...v1.ResourceName) v1.ResourceList {
		out := v1.ResourceList{}
		for _, n := range names {
			out[n] = resource.MustParse("10")
		}
		return out
	}
	of := func(hard v1.ResourceList, selectors ...v1.ScopedResourceSelectorRequirement) *v1.ResourceQuota {
		q := &v1.ResourceQuota{Spec: v1.ResourceQuotaSpec{Hard: hard}, Status: v1.ResourceQuotaStatus{Hard: hard}}
		if len(selectors) > 0 {
			q.Spec.ScopeSelector = &v1.ScopeSelector{MatchExpressions: selectors}
		}
		return q
	}
	top := v1.ScopedResourceSelectorRequirement{ScopeName: v1.ResourceQuotaScopePriorityClass, Operator: v1.ScopeSelectorOpIn, Values: []string{"top"}}
	for name, tc := range map[string]struct {
		class, cpu string
		quotas     []*v1.ResourceQuota
		want       string
	}{
		"nothing limited is used":      {},
		"no quota counts it":           {cpu: "1", quotas: []*v1.ResourceQuota{of(hard(v1.ResourcePods))}, want: `pods "p" is forbidden: insufficient quota to consume: cpu,requests.cpu`},
		"a quota counts it":            {cpu: "1", quotas: []*v1.ResourceQuota{of(hard(v1.ResourceCPU, v1.ResourceRequestsCPU))}},
		"a quota of another scope":     {cpu: "1", quotas: []*v1.ResourceQuota{of(hard(v1.ResourceCPU, v1.ResourceRequestsCPU), top)}, want: "insufficient quota to consume: cpu,requests.cpu"},
		"a scope that no quota has":    {class: "top", want: "insufficient quota to match these scopes: [{PriorityClass In [top]}]"},
		"a scope that a quota has":     {class: "top", quotas: []*v1.ResourceQuota{of(hard(v1.ResourcePods), top)}},
		"a class that is not limited":  {class: "other"},
		"a quota without the scope":    {class: "top", quotas: []*v1.ResourceQuota{of(hard(v1.ResourcePods))}, want: "insufficient quota to match these scopes"},
		"what it counts and the scope": {class: "top", cpu: "1", quotas: []*v1.ResourceQuota{of(hard(v1.ResourceCPU, v1.ResourceRequestsCPU), top)}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: v1.PodSpec{PriorityClassName: tc.class, Containers: []v1.Container{{Name: "c"}}}}
			if tc.cpu != "" {
				pod.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse(tc.cpu)}
			}
			a := &admission.Attributes{Operation: admission.Create, Namespace: "ns", Name: "p", Resource: v1.SchemeGroupVersion.WithResource("pods"), Object: pod}
			err := l.of(a.GroupResource()).check(a, quota.Pods{Now: time.Now}, tc.quotas)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
	if got := l.of(schema.GroupResource{Resource: "services"}); got != nil {
		t.Errorf("services are limited: %v", got)
	}
}

func TestReadLimits(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"none":           {},
		"older version":  {in: "{apiVersion: resourcequota.admission.k8s.io/v1beta1, kind: Configuration, limitedResources: [{resource: pods}]}"},
		"no resource":    {in: "{apiVersion: apiserver.config.k8s.io/v1, kind: ResourceQuotaConfiguration, limitedResources: [{apiGroup: apps}]}", want: "limitedResources[0].resource: Required value"},
		"unknown field":  {in: "{apiVersion: apiserver.config.k8s.io/v1, kind: ResourceQuotaConfiguration, limits: []}", want: `unknown field "limits"`},
		"another's kind": {in: "{apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmission}", want: `no kind "WebhookAdmission"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readLimits([]byte(tc.in))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("error (-want +got):\n%s", cmp.Diff(tc.want, got))
			}
		})
	}
}
