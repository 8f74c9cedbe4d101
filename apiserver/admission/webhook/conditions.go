package webhook

import (
	"context"
	"fmt"

	arv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/library"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/expressions"
)

// conditions evaluates match conditions.
type conditions struct {
	auth     authorizer.Authorizer
	compiler *expressions.Compiler
}

func newConditions(auth authorizer.Authorizer) (*conditions, error) {
	compiler, err := expressions.New(expressions.Webhook()...)
	if err != nil {
		return nil, err
	}
	return &conditions{auth: auth, compiler: compiler}, nil
}

// match is true when all conditions hold. One that is false decides, even when another fails.
func (c *conditions) match(ctx context.Context, list []arv1.MatchCondition, a *admission.Attributes, values map[string]any) (bool, error) {
	SetAuthorizer(values, a, c.auth)
	var errs []error
	for _, m := range list {
		hold, err := c.compiler.Holds(ctx, m.Expression, values)
		if err != nil {
			errs = append(errs, fmt.Errorf("expression '%v' resulted in error: %w", m.Expression, err))
		} else if !hold {
			return false, nil
		}
	}
	return len(errs) == 0, utilerrors.NewAggregate(errs)
}

// SetAuthorizer gives expressions the means to ask what the requester may do.
func SetAuthorizer(values map[string]any, a *admission.Attributes, auth authorizer.Authorizer) {
	values["authorizer"] = library.NewAuthorizerVal(a.User, auth)
	values["authorizer.requestResource"] = library.NewResourceAuthorizerVal(a.User, auth, target{a})
}

// target is the request's resource for authorizer.requestResource.
type target struct{ a *admission.Attributes }

func (t target) GetName() string                          { return t.a.Name }
func (t target) GetNamespace() string                     { return t.a.Namespace }
func (t target) GetResource() schema.GroupVersionResource { return t.a.Resource }
func (t target) GetSubresource() string                   { return t.a.Subresource }
