package vapstatus_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admission "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"skiff/apiserver/apiservertest"
	"skiff/controllers/loop"
	"skiff/controllers/vapstatus"
)

// The controller needs no more rights than its role has, and finds the types in
// what the API server publishes.
//
// Covers: api.policies
func TestStatus(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	client, err := kubernetes.NewForConfig(s.As(t, "system:serviceaccount:kube-system:validatingadmissionpolicy-status-controller", "system:serviceaccounts", "system:authenticated"))
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := vapstatus.New(vapstatus.Config{Parts: loop.Parts{Client: client, Informers: factory}})
	if err != nil {
		t.Fatal(err)
	}
	apiservertest.RunController(t, factory, c)

	policies := s.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	for name, tc := range map[string]struct {
		group, resource, expression string
		want                        []admission.ExpressionWarning
	}{
		"right": {group: "apps", resource: "deployments", expression: "object.spec.replicas > 1 && namespaceObject.metadata.name == object.metadata.namespace"},
		"pod": {resource: "pods", expression: "object.spec.containers.all(c, !has(c.resources.limits) || quantity(c.resources.limits['cpu']).isLessThan(quantity('1'))) && " +
			"object.spec.containers.all(c, !has(c.livenessProbe) || c.livenessProbe.httpGet.port == 80)"},
		"wrong": {group: "apps", resource: "deployments", expression: "object.foo > 1", want: []admission.ExpressionWarning{{FieldRef: "spec.validations[0].expression",
			Warning: "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'foo'\n | object.foo > 1\n | ......^"}}},
	} {
		p := &admission.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admission.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admission.MatchResources{ResourceRules: []admission.NamedRuleWithOperations{{RuleWithOperations: admission.RuleWithOperations{
				Operations: []admission.OperationType{admission.Create},
				Rule:       admission.Rule{APIGroups: []string{tc.group}, APIVersions: []string{"v1"}, Resources: []string{tc.resource}}}}}},
			Validations: []admission.Validation{{Expression: tc.expression}},
		}}
		if _, err := policies.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			var err error
			p, err = policies.Get(ctx, name, metav1.GetOptions{})
			return err == nil && p.Status.TypeChecking != nil, err
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(tc.want, p.Status.TypeChecking.ExpressionWarnings); d != "" || p.Status.ObservedGeneration != p.Generation {
			t.Errorf("%s: generation %d of %d, the warnings differ (-want +got):\n%s", name, p.Status.ObservedGeneration, p.Generation, d)
		}
	}
}
