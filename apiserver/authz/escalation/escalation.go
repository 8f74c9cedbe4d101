// Package escalation holds RBAC's two rules against giving away more than one
// has: a role may only contain rules that its writer already holds (or the
// writer has the verb "escalate"), and a binding may only be made by who holds
// the role's rules (or has the verb "bind"). It is an admission plugin in
// shape, and always on: RBAC means nothing without it.
package escalation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	corelisters "k8s.io/client-go/listers/rbac/v1"
	rbacvalidation "k8s.io/component-helpers/auth/rbac/validation"

	"skiff/apiserver/admission"
)

// Resolver tells what users hold and roles contain; rbac.Authorizer is one.
type Resolver interface {
	Rules(ctx context.Context, u user.Info, namespace string) ([]rbacv1.PolicyRule, error)
	RoleRules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error)
}

// Config of the check.
type Config struct {
	Resolver   Resolver
	Authorizer authorizer.UnconditionalAuthorizer
	// ClusterRoles finds the roles that an aggregation rule would take in.
	ClusterRoles corelisters.ClusterRoleLister
}

// Check is the validator of roles and bindings.
type Check struct{ cfg Config }

// New checks the configuration.
func New(c Config) (*Check, error) {
	if c.Resolver == nil || c.Authorizer == nil || c.ClusterRoles == nil {
		return nil, errors.New("RBAC escalation check: Resolver, Authorizer and ClusterRoles must be set")
	}
	return &Check{cfg: c}, nil
}

// Name of the plugin.
func (*Check) Name() string { return "RBACEscalationCheck" }

// Handles writes.
func (*Check) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate refuses what would raise the requestor's rights.
func (c *Check) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Resource.Group != rbacv1.GroupName || a.Subresource != "" {
		return nil
	}
	if a.User != nil && slices.Contains(a.User.GetGroups(), user.SystemPrivilegedGroup) {
		return nil
	}
	switch o := a.Object.(type) {
	case *rbacv1.Role:
		old, _ := a.OldObject.(*rbacv1.Role)
		if old != nil && equality.Semantic.DeepEqual(old.Rules, o.Rules) {
			return nil
		}
		return c.role(ctx, a, o.Name, o.Rules, "escalate")
	case *rbacv1.ClusterRole:
		return c.clusterRole(ctx, a, o)
	case *rbacv1.RoleBinding:
		old, _ := a.OldObject.(*rbacv1.RoleBinding)
		if old != nil && equality.Semantic.DeepEqual(old.RoleRef, o.RoleRef) && equality.Semantic.DeepEqual(old.Subjects, o.Subjects) {
			return nil
		}
		return c.binding(ctx, a, o.Name, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		old, _ := a.OldObject.(*rbacv1.ClusterRoleBinding)
		if old != nil && equality.Semantic.DeepEqual(old.RoleRef, o.RoleRef) && equality.Semantic.DeepEqual(old.Subjects, o.Subjects) {
			return nil
		}
		return c.binding(ctx, a, o.Name, o.RoleRef)
	}
	return nil
}

func (c *Check) clusterRole(ctx context.Context, a *admission.Attributes, o *rbacv1.ClusterRole) error {
	old, _ := a.OldObject.(*rbacv1.ClusterRole)
	if old != nil && equality.Semantic.DeepEqual(old.Rules, o.Rules) && equality.Semantic.DeepEqual(old.AggregationRule, o.AggregationRule) {
		return nil
	}
	rules := o.Rules
	if o.AggregationRule != nil && (old == nil || !equality.Semantic.DeepEqual(old.AggregationRule, o.AggregationRule)) {
		// Whoever decides what is taken in must hold everything, or all that matches now.
		all := []rbacv1.PolicyRule{
			{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}},
			{NonResourceURLs: []string{"*"}, Verbs: []string{"*"}},
		}
		if c.confirm(ctx, a, all) != nil {
			if err := c.role(ctx, a, o.Name, all, "escalate"); err != nil {
				return apierrors.NewForbidden(a.GroupResource(), o.Name, errors.New("must have cluster-admin privileges to use the aggregationRule"))
			}
			return nil
		}
		for i := range o.AggregationRule.ClusterRoleSelectors {
			if _, err := metav1.LabelSelectorAsSelector(&o.AggregationRule.ClusterRoleSelectors[i]); err != nil {
				return apierrors.NewBadRequest(err.Error())
			}
		}
	}
	return c.role(ctx, a, o.Name, rules, "escalate")
}

// role passes when the requestor holds rules or has verb on the role.
func (c *Check) role(ctx context.Context, a *admission.Attributes, name string, rules []rbacv1.PolicyRule, verb string) error {
	if c.may(ctx, a, verb, a.Resource.Resource, name) {
		return nil
	}
	if err := c.confirm(ctx, a, rules); err != nil {
		return apierrors.NewForbidden(a.GroupResource(), name, err)
	}
	return nil
}

func (c *Check) binding(ctx context.Context, a *admission.Attributes, name string, ref rbacv1.RoleRef) error {
	resource := "roles"
	if ref.Kind == "ClusterRole" {
		resource = "clusterroles"
	}
	if c.may(ctx, a, "bind", resource, ref.Name) {
		return nil
	}
	rules, err := c.cfg.Resolver.RoleRules(ref, a.Namespace)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if apierrors.IsNotFound(err) {
		return err
	}
	if err := c.confirm(ctx, a, rules); err != nil {
		return apierrors.NewForbidden(a.GroupResource(), name, err)
	}
	return nil
}

func (c *Check) may(ctx context.Context, a *admission.Attributes, verb, resource, name string) bool {
	d, _, _ := c.cfg.Authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: a.User, Verb: verb, APIGroup: rbacv1.GroupName, APIVersion: "*", Resource: resource,
		Name: name, Namespace: a.Namespace, ResourceRequest: true,
	})
	return d == authorizer.DecisionAllow
}

// confirm says which rules the requestor does not hold.
func (c *Check) confirm(ctx context.Context, a *admission.Attributes, rules []rbacv1.PolicyRule) error {
	held, resolveErr := c.cfg.Resolver.Rules(ctx, a.User, a.Namespace)
	ok, missing := rbacvalidation.Covers(held, rules)
	if ok {
		return nil
	}
	lines := make([]string, 0, len(missing))
	for i := range missing {
		lines = append(lines, ruleText(&missing[i]))
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	msg := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		a.User.GetName(), a.User.GetGroups(), strings.Join(lines, "\n"))
	if resolveErr != nil {
		msg += fmt.Sprintf("; resolution errors: %v", resolveErr)
	}
	return errors.New(msg)
}

// ruleText is a rule as one line.
func ruleText(r *rbacv1.PolicyRule) string {
	var parts []string
	add := func(name string, v []string) {
		if len(v) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", name, v))
		}
	}
	add("APIGroups", r.APIGroups)
	add("Resources", r.Resources)
	add("ResourceNames", r.ResourceNames)
	add("NonResourceURLs", r.NonResourceURLs)
	add("Verbs", r.Verbs)
	return "{" + strings.Join(parts, ", ") + "}"
}
