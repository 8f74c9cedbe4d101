package conformance

import (
	"slices"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAPIWebhookMatchConditions(t *testing.T) {
	conditions := []registrationv1.MatchCondition{{Name: "no-configmaps", Expression: "request.resource.resource != 'configmaps'"}}
	updated := []registrationv1.MatchCondition{{Name: "no-secrets", Expression: "request.resource.resource != 'secrets'"}}
	bad := []registrationv1.MatchCondition{{Name: "bad", Expression: "...)"}}
	s := parallel(t)
	h := s.hooks(nil)
	// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update validating webhook configurations with match conditions
	t.Run("validating", func(t *testing.T) {
		s := s.as(t)
		c := s.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
		v := h.validating("maps", "/configmaps", rule("", "configmaps", createOp))
		v.MatchConditions = conditions
		got := h.validate("v", v)
		if !slices.Equal(got.Webhooks[0].MatchConditions, conditions) {
			t.Errorf("conditions %+v", got.Webhooks[0].MatchConditions)
		}
		got.Webhooks[0].MatchConditions = updated
		_, err := c.Update(s.ctx, got, metav1.UpdateOptions{})
		s.must(err)
		got, err = c.Get(s.ctx, got.Name, metav1.GetOptions{})
		s.must(err)
		if !slices.Equal(got.Webhooks[0].MatchConditions, updated) {
			t.Errorf("updated conditions %+v", got.Webhooks[0].MatchConditions)
		}
		// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook configurations with invalid match conditions
		v.MatchConditions = bad
		_, err = c.Create(s.ctx, &registrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: s.name + "-bad"}, Webhooks: []registrationv1.ValidatingWebhook{v}}, metav1.CreateOptions{})
		s.denied("a bad expression", err, "compilation failed")
	})
	// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update mutating webhook configurations with match conditions
	t.Run("mutating", func(t *testing.T) {
		s := s.as(t)
		c := s.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
		m := h.mutating("maps", "/configmaps", rule("", "configmaps", createOp))
		m.MatchConditions = conditions
		got := h.mutate("m", m)
		if !slices.Equal(got.Webhooks[0].MatchConditions, conditions) {
			t.Errorf("conditions %+v", got.Webhooks[0].MatchConditions)
		}
		got.Webhooks[0].MatchConditions = updated
		_, err := c.Update(s.ctx, got, metav1.UpdateOptions{})
		s.must(err)
		got, err = c.Get(s.ctx, got.Name, metav1.GetOptions{})
		s.must(err)
		if !slices.Equal(got.Webhooks[0].MatchConditions, updated) {
			t.Errorf("updated conditions %+v", got.Webhooks[0].MatchConditions)
		}
		// Conformance: [sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook configurations with invalid match conditions
		m.MatchConditions = bad
		_, err = c.Create(s.ctx, &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: s.name + "-bad"}, Webhooks: []registrationv1.MutatingWebhook{m}}, metav1.CreateOptions{})
		s.denied("a bad expression", err, "compilation failed")
	})
}
