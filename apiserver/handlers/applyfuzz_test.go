package handlers

import (
	"encoding/json"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	applyconfigurations "k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
)

// applyTarget is a Deployment that two managers apply to.
func applyTarget(f testing.TB) (*API, *Target) {
	f.Helper()
	a, err := New(Config{TypeConverter: func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(scheme.Scheme) }})
	if err != nil {
		f.Fatal(err)
	}
	res := &resources.Resource{Group: "apps", Kind: "Deployment", Plural: "deployments", Hub: "v1", Namespaced: true,
		Versions: []resources.Version{resources.HubVersion[appsv1.Deployment]("v1", resources.Empty[appsv1.DeploymentList], nil)}}
	return a, &Target{Resource: res, Version: &res.Versions[0], Namespace: "ns", Name: "d", entry: &entry{res: res, managers: map[managerKey]*managedfields.FieldManager{}}}
}

// FuzzApply: a configuration of whatever form is merged or refused; what is
// merged can be applied again, to the same end.
func FuzzApply(f *testing.F) {
	const head = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: ns}\n"
	for _, body := range []string{
		"spec: {replicas: 3}",
		"spec: {template: {spec: {containers: [{name: a, image: i}, {name: b, env: [{name: x, value: y}], ports: [{containerPort: 80}]}]}}}",
		"spec: {template: {spec: {containers: [{name: a}, {name: a}]}}}",
		"spec: {template: {spec: {containers: [{image: i}], volumes: [null]}}}",
		"spec: {template: {spec: {containers: {name: a}}}}",
		"spec: {selector: null, strategy: {rollingUpdate: {maxSurge: 1}}}",
		"spec: {strategy: {rollingUpdate: {maxSurge: 30%, maxUnavailable: -0x1}}}",
		"metadata: {managedFields: [{manager: x, operation: Apply}]}",
		"metadata: {name: d, finalizers: [a, a], ownerReferences: [{uid: u}, {uid: u}]}",
		"spec: &a {template: *a}",
	} {
		f.Add([]byte(head+body), false)
		f.Add([]byte(head+body), true)
	}
	f.Add([]byte("{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"spec\":{\"replicas\":1e400}}"), true)
	a, target := applyTarget(f)
	cur := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "ns"}, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To[int32](1), Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "old"}}}},
	}}
	f.Fuzz(func(t *testing.T, b []byte, force bool) {
		o := &metav1.PatchOptions{FieldManager: "m", Force: &force}
		mutate, err := a.applyPatch(target, &target.Resource.Strategy, string(types.ApplyYAMLPatchType), b, o, validateIgnore)
		if err != nil {
			return
		}
		once, err := mutate(t.Context(), cur.DeepCopy())
		if err != nil {
			return
		}
		twice, err := mutate(t.Context(), once.DeepCopyObject())
		if err != nil {
			t.Fatalf("what was merged is refused when it is applied again: %v", err)
		}
		x, y := bare(t, once), bare(t, twice)
		// An item whose key is null becomes one whose key is empty, which validation
		// refuses; another follows it each time.
		if strings.Contains(x, `:null}":`) {
			return
		}
		if x != y {
			t.Errorf("once it is %s\ntwice        %s", x, y)
		}
	})
}

// bare is an object without the times of its managers.
func bare(t *testing.T, obj runtime.Object) string {
	t.Helper()
	m, err := metaOf(obj)
	if err != nil {
		t.Fatal(err)
	}
	fields := m.GetManagedFields()
	for i := range fields {
		fields[i].Time = nil
	}
	m.SetManagedFields(fields)
	b, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// FuzzManagedFields: managers' fields of whatever form that a client sends with an
// object, in a write and in what is stored, are kept, reset or refused.
func FuzzManagedFields(f *testing.F) {
	for _, fields := range []string{
		`[{"manager":"m","operation":"Apply","apiVersion":"apps/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:replicas":{}}}}]`,
		`[{"manager":"m","operation":"Update","apiVersion":"apps/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}}}}}}}]`,
		`[{"manager":"m","operation":"Apply","apiVersion":"none/v9","fieldsType":"FieldsV1","fieldsV1":{"v:1":{},"i:-1":{},"k:{}":{}}}]`,
		`[{"manager":"m","operation":"Wrong","apiVersion":"","fieldsType":"FieldsV2","fieldsV1":{"x":1}}]`,
		`[{"manager":"m","operation":"Apply","apiVersion":"apps/v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:managedFields":{"i:9999999999999999999":{}}}}}]`,
		`[{}]`, `[]`, `[{"fieldsV1":null,"time":"x"}]`,
	} {
		f.Add([]byte(fields))
	}
	a, target := applyTarget(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var entries []metav1.ManagedFieldsEntry
		if json.Unmarshal(b, &entries) != nil {
			return
		}
		m, err := a.manager(target, &target.Resource.Strategy)
		if err != nil {
			t.Fatal(err)
		}
		live := &appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "ns"}}
		next := live.DeepCopy()
		next.Spec.Replicas = ptr.To[int32](2)
		next.ManagedFields = entries
		// Sent by a client.
		if out, err := m.Update(live.DeepCopyObject(), next, "m"); err == nil {
			again(t, m, out)
		}
		// Stored.
		stored := live.DeepCopy()
		stored.ManagedFields = entries
		if out, err := m.Update(stored, live.DeepCopyObject(), "m"); err == nil {
			again(t, m, out)
		}
	})
}

// again applies to what a write made: its managers are such as the server reads.
func again(t *testing.T, m *managedfields.FieldManager, live runtime.Object) {
	t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "d", "namespace": "ns"}, "spec": map[string]any{"paused": true}}}
	if _, err := m.Apply(live, u, "other", true); err != nil {
		t.Errorf("to what the server wrote nothing can be applied: %v", err)
	}
}
