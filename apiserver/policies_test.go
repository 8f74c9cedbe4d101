package apiserver_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	arv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"skiff/apiserver/apiservertest"
)

// mutate makes a mutating policy and binds it. It is in force a moment later.
func mutate(t *testing.T, client kubernetes.Interface, spec arv1.MutatingAdmissionPolicySpec) {
	t.Helper()
	c := client.AdmissionregistrationV1()
	_, err := c.MutatingAdmissionPolicies().Create(t.Context(), &arv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "pol"}, Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bind := &arv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "bind"}, Spec: arv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "pol"}}
	if _, err := c.MutatingAdmissionPolicyBindings().Create(t.Context(), bind, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// What admission adds to an object gets its defaults before it is validated.
//
// Covers: api.webhooks, api.policies
func TestAdmissionIsDefaulted(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	mutate(t, s.Client, arv1.MutatingAdmissionPolicySpec{
		ReinvocationPolicy: arv1.NeverReinvocationPolicy,
		MatchConstraints: &arv1.MatchResources{ResourceRules: []arv1.NamedRuleWithOperations{{RuleWithOperations: arv1.RuleWithOperations{
			Operations: []arv1.OperationType{arv1.Create},
			Rule:       arv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}}}}}},
		Mutations: []arv1.Mutation{{PatchType: arv1.PatchTypeApplyConfiguration, ApplyConfiguration: &arv1.ApplyConfiguration{Expression: "Object{spec: Object.spec{template: Object.spec.template{" +
			"spec: Object.spec.template.spec{initContainers: [Object.spec.template.spec.initContainers{name: 'mesh', image: 'm'}]}}}}"}}}})
	// The policy is seen a moment later.
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		got, err := s.Client.AppsV1().Deployments("default").Create(ctx, deployment("d"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil || len(got.Spec.Template.Spec.InitContainers) == 0 {
			return false, err
		}
		if c := got.Spec.Template.Spec.InitContainers[0]; c.ImagePullPolicy != corev1.PullAlways || c.TerminationMessagePath == "" {
			t.Errorf("the container is %+v, want it with its defaults", c)
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An apply configuration merges a custom resource by its definition's schema: an
// item with the same key is changed and the others stay, also beside fields that
// the schema leaves open.
//
// Covers: api.policies, api.custom-schema
func TestPolicyAppliesToCustomResources(t *testing.T) {
	e := startExtended(t)
	ctx := t.Context()
	e.define(t, widgets)
	mutate(t, e.client, arv1.MutatingAdmissionPolicySpec{
		ReinvocationPolicy: arv1.NeverReinvocationPolicy,
		MatchConstraints: &arv1.MatchResources{ResourceRules: []arv1.NamedRuleWithOperations{{RuleWithOperations: arv1.RuleWithOperations{
			Operations: []arv1.OperationType{arv1.Create},
			Rule:       arv1.Rule{APIGroups: []string{"example.com"}, APIVersions: []string{"v1"}, Resources: []string{"widgets"}}}}}},
		Mutations: []arv1.Mutation{{PatchType: arv1.PatchTypeApplyConfiguration, ApplyConfiguration: &arv1.ApplyConfiguration{
			Expression: "Object{spec: Object.spec{items: [Object.spec.items{name: 'a', value: 'set'}]}}"}}}})
	in := widget("v1", "w", map[string]any{
		"open":  map[string]any{"any": "thing"},
		"items": []any{map[string]any{"name": "a", "value": "own"}, map[string]any{"name": "b", "value": "own"}},
	})
	before := in.Object["spec"].(map[string]any)["items"]
	want := []any{map[string]any{"name": "a", "value": "set"}, map[string]any{"name": "b", "value": "own"}}
	ws := e.dyn.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}).Namespace("default")
	// The policy is seen a moment later.
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		got, err := ws.Create(ctx, in, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return false, err
		}
		spec := got.Object["spec"].(map[string]any)
		if cmp.Equal(before, spec["items"]) {
			return false, nil
		}
		if diff := cmp.Diff(map[string]any{"size": int64(3), "open": map[string]any{"any": "thing"}, "items": want}, spec); diff != "" {
			t.Error(diff)
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Admission sees a Scale as what it is, not the object that is scaled, and what it
// changes there is taken.
//
// Covers: api.policies, api.webhooks
func TestAdmissionSeesScale(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	mutate(t, s.Client, arv1.MutatingAdmissionPolicySpec{
		ReinvocationPolicy: arv1.NeverReinvocationPolicy,
		MatchConstraints: &arv1.MatchResources{ResourceRules: []arv1.NamedRuleWithOperations{{RuleWithOperations: arv1.RuleWithOperations{
			Operations: []arv1.OperationType{arv1.Update},
			Rule:       arv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments/scale"}}}}}},
		MatchConditions: []arv1.MatchCondition{{Name: "scale", Expression: "request.kind.kind == 'Scale' && object.kind == 'Scale' && !has(object.spec.template) && oldObject.spec.replicas == 1"}},
		Mutations: []arv1.Mutation{{PatchType: arv1.PatchTypeJSONPatch, JSONPatch: &arv1.JSONPatch{
			Expression: "[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas + 2}]"}}}})
	d := deployment("d")
	d.Spec.Replicas = new(int32)
	*d.Spec.Replicas = 1
	if _, err := s.Client.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	path := "/apis/apps/v1/namespaces/default/deployments/d/scale?dryRun=All"
	for name, kind := range map[string]string{"merge": "application/merge-patch+json", "apply": "application/apply-patch+yaml"} {
		// The policy is seen a moment later.
		err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
			a := s.Call(t, "PATCH", path+"&fieldManager=m&force=true", `{"apiVersion":"autoscaling/v1","kind":"Scale","spec":{"replicas":3}}`, "Content-Type", kind)
			if kind == "application/merge-patch+json" {
				a = s.Call(t, "PATCH", path, `{"spec":{"replicas":3}}`, "Content-Type", kind)
			}
			if a.Code != 200 {
				return false, fmt.Errorf("%d %s", a.Code, a.Body)
			}
			return bytes.Contains(a.Body, []byte(`"replicas":5`)), nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
