package conformance

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// deployment is one of so many pods that are never made.
func oneDeployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Paused: true,
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "probe"}}}},
	}}
}

// deployments are those of the test's namespace, in the rules of policies.
func (s *space) deployments() *registrationv1.MatchResources {
	return &registrationv1.MatchResources{NamespaceSelector: s.inSpace(), ResourceRules: []registrationv1.NamedRuleWithOperations{{
		RuleWithOperations: rule("apps", "deployments", createOp),
	}}}
}

// validatingPolicy makes a policy and its binding, and waits until its status
// says that it was checked, as clients do.
func (s *space) validatingPolicy(spec registrationv1.ValidatingAdmissionPolicySpec) {
	s.t.Helper()
	c := s.client.AdmissionregistrationV1()
	spec.MatchConstraints = s.deployments()
	_, err := c.ValidatingAdmissionPolicies().Create(s.ctx, &registrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: spec}, metav1.CreateOptions{})
	s.must(err)
	s.later("delete the policy", func(ctx context.Context) error {
		return c.ValidatingAdmissionPolicies().Delete(ctx, s.name, metav1.DeleteOptions{})
	})
	s.eventually(30*time.Second, "the policy's types are checked", func() error {
		p, err := c.ValidatingAdmissionPolicies().Get(s.ctx, s.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if p.Status.TypeChecking == nil || p.Status.ObservedGeneration != p.Generation {
			return fmt.Errorf("the status is %+v", p.Status)
		}
		if w := p.Status.TypeChecking.ExpressionWarnings; len(w) > 0 {
			s.t.Errorf("warnings %+v", w)
		}
		return nil
	})
	_, err = c.ValidatingAdmissionPolicyBindings().Create(s.ctx, &registrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: s.name},
		Spec: registrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: s.name, ValidationActions: []registrationv1.ValidationAction{registrationv1.Deny},
			MatchResources: &registrationv1.MatchResources{NamespaceSelector: s.inSpace()}},
	}, metav1.CreateOptions{})
	s.must(err)
	s.later("delete the binding", func(ctx context.Context) error {
		return c.ValidatingAdmissionPolicyBindings().Delete(ctx, s.name, metav1.DeleteOptions{})
	})
}

func (s *space) tryDeploy(d *appsv1.Deployment, dry bool) (*appsv1.Deployment, error) {
	o := metav1.CreateOptions{}
	if dry {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return s.client.AppsV1().Deployments(s.name).Create(s.ctx, d, o)
}

func TestAPIValidatingPolicy(t *testing.T) {
	for name, spec := range map[string]registrationv1.ValidatingAdmissionPolicySpec{
		// Conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment
		"plain": {Validations: []registrationv1.Validation{
			{Expression: "object.spec.replicas > 1", MessageExpression: "'wants replicas > 1, got ' + string(object.spec.replicas)"},
			{Expression: "namespaceObject.metadata.name == object.metadata.namespace", Message: "Internal error! Other namespace should not be allowed."},
		}},
		// Conformance: [sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables.
		"variables": {
			Variables: []registrationv1.Variable{
				{Name: "replicas", Expression: "object.spec.replicas"},
				{Name: "oddReplicas", Expression: "variables.replicas % 2 == 1"},
			},
			Validations: []registrationv1.Validation{
				{Expression: "variables.replicas > 1", MessageExpression: "'wants replicas > 1, got ' + string(variables.replicas)"},
				{Expression: "variables.oddReplicas || variables.replicas == 2", Message: "odd"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.validatingPolicy(spec)
			s.eventually(30*time.Second, "the policy is in force", func() error {
				if _, err := s.tryDeploy(oneDeployment("marker", 1), true); err == nil {
					return fmt.Errorf("a marker was taken")
				}
				return nil
			})
			_, err := s.tryDeploy(oneDeployment("d", 1), false)
			s.denied("one replica", err, "is forbidden: ValidatingAdmissionPolicy '"+s.name+"' with binding '"+s.name+"' denied request: wants replicas > 1, got 1")
			_, err = s.tryDeploy(oneDeployment("d", 2), false)
			s.must(err)
		})
	}
}

// A policy's status says which of its expressions do not fit the type that it is for.
func TestAPIPolicyTypes(t *testing.T) {
	s := parallel(t)
	c := s.client.AdmissionregistrationV1().ValidatingAdmissionPolicies()
	_, err := c.Create(s.ctx, &registrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: registrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: s.deployments(),
		Validations: []registrationv1.Validation{
			{Expression: "object.spec.replicas > 1", MessageExpression: "'there are ' + object.spec.replicas"},
			{Expression: "object.foo > 1"},
			{Expression: "object.spec.replicas > '1'"},
		},
	}}, metav1.CreateOptions{})
	s.must(err)
	s.later("delete the policy", func(ctx context.Context) error { return c.Delete(ctx, s.name, metav1.DeleteOptions{}) })
	var status registrationv1.ValidatingAdmissionPolicyStatus
	s.eventually(30*time.Second, "the policy's types are checked", func() error {
		p, err := c.Get(s.ctx, s.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		status = p.Status
		if status.TypeChecking == nil || status.ObservedGeneration != p.Generation {
			return fmt.Errorf("the status is %+v", status)
		}
		return nil
	})
	want := []registrationv1.ExpressionWarning{
		{FieldRef: "spec.validations[0].messageExpression", Warning: "apps/v1, Kind=Deployment: ERROR: <input>:1:14: found no matching overload for '_+_' applied to '(string, int)'\n" +
			" | 'there are ' + object.spec.replicas\n | .............^"},
		{FieldRef: "spec.validations[1].expression", Warning: "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'foo'\n | object.foo > 1\n | ......^"},
		{FieldRef: "spec.validations[2].expression", Warning: "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n" +
			" | object.spec.replicas > '1'\n | .....................^"},
	}
	if d := cmp.Diff(want, status.TypeChecking.ExpressionWarnings); d != "" {
		t.Errorf("the warnings differ (-want +got):\n%s", d)
	}
}

func TestAPIMutatingPolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		mutations []registrationv1.Mutation
		is        func(*appsv1.Deployment) bool
	}{
		// Conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment
		"spec": {
			mutations: []registrationv1.Mutation{{PatchType: registrationv1.PatchTypeApplyConfiguration, ApplyConfiguration: &registrationv1.ApplyConfiguration{
				Expression: `Object{spec: Object.spec{replicas: object.spec.replicas + 100}}`}}},
			is: func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 101 },
		},
		// Conformance: [sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations
		"annotations": {
			mutations: []registrationv1.Mutation{
				{PatchType: registrationv1.PatchTypeJSONPatch, JSONPatch: &registrationv1.JSONPatch{
					Expression: `(has(object.metadata.annotations) ? [] : [JSONPatch{op: "add", path: "/metadata/annotations", value: {}}]) +
						[JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey("example.com/a"), value: "one"}]`}},
				{PatchType: registrationv1.PatchTypeApplyConfiguration, ApplyConfiguration: &registrationv1.ApplyConfiguration{
					Expression: `Object{metadata: Object.metadata{annotations: {"b": "two"}}}`}},
			},
			is: func(d *appsv1.Deployment) bool {
				return d.Annotations["example.com/a"] == "one" && d.Annotations["b"] == "two"
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			c := s.client.AdmissionregistrationV1()
			_, err := c.MutatingAdmissionPolicies().Create(s.ctx, &registrationv1.MutatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: registrationv1.MutatingAdmissionPolicySpec{
				MatchConstraints: s.deployments(), ReinvocationPolicy: registrationv1.NeverReinvocationPolicy, FailurePolicy: ptr.To(registrationv1.Fail), Mutations: tc.mutations,
			}}, metav1.CreateOptions{})
			s.must(err)
			s.later("delete the policy", func(ctx context.Context) error {
				return c.MutatingAdmissionPolicies().Delete(ctx, s.name, metav1.DeleteOptions{})
			})
			_, err = c.MutatingAdmissionPolicyBindings().Create(s.ctx, &registrationv1.MutatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: registrationv1.MutatingAdmissionPolicyBindingSpec{
				PolicyName: s.name, MatchResources: &registrationv1.MatchResources{NamespaceSelector: s.inSpace()},
			}}, metav1.CreateOptions{})
			s.must(err)
			s.later("delete the binding", func(ctx context.Context) error {
				return c.MutatingAdmissionPolicyBindings().Delete(ctx, s.name, metav1.DeleteOptions{})
			})
			s.eventually(30*time.Second, "the policy is in force", func() error {
				d, err := s.tryDeploy(oneDeployment("marker", 1), true)
				if err == nil && !tc.is(d) {
					err = fmt.Errorf("the deployment is %+v", d)
				}
				return err
			})
			d, err := s.tryDeploy(oneDeployment("d", 1), false)
			s.must(err)
			if !tc.is(d) {
				t.Errorf("the deployment is %+v", d)
			}
		})
	}
}
