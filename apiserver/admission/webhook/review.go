package webhook

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver/admission"
)

// Exempt tells whether the resource is never sent to webhooks and policies.
func Exempt(a *admission.Attributes) bool { return exempt(a.GroupResource()) }

// Matcher tests requests against namespace selectors, and shows them to CEL.
type Matcher struct{ core }

// NewMatcher makes a Matcher.
func NewMatcher(c Config) *Matcher {
	c.Informers.Core().V1().Namespaces().Informer()
	return &Matcher{core{cfg: c}}
}

// Namespace tests the selector against the request's namespace.
func (m *Matcher) Namespace(ctx context.Context, s *metav1.LabelSelector, a *admission.Attributes) (bool, error) {
	return m.namespaceMatches(ctx, s, a)
}

// Values are object, oldObject and request as CEL sees them, in the request's version.
func (m *Matcher) Values(a *admission.Attributes) (map[string]any, error) {
	req, err := m.request(&invocation{resource: a.Resource, kind: a.Kind}, a, "")
	if err != nil {
		return nil, err
	}
	return celValues(req)
}
