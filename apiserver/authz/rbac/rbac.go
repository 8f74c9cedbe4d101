// Package rbac decides by the roles and bindings of rbac.authorization.k8s.io.
// It keeps an index by subject, fed by informer events, so that a decision
// looks only at the bindings that name the user or one of its groups.
package rbac

import (
	"context"
	"errors"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// Authorizer is the RBAC authorizer and rule resolver.
type Authorizer struct {
	authorizer.AuthorizerFunc
	index  *index
	synced []cache.InformerSynced
}

// New wires the authorizer to the factory's informers; it decides on what they
// have delivered, and HasSynced says when that is everything.
func New(f informers.SharedInformerFactory) (*Authorizer, error) {
	a := &Authorizer{index: newIndex()}
	a.AuthorizerFunc = a.Authorize
	v1 := f.Rbac().V1()
	for _, inf := range []cache.SharedIndexInformer{
		v1.ClusterRoles().Informer(), v1.Roles().Informer(),
		v1.ClusterRoleBindings().Informer(), v1.RoleBindings().Informer(),
	} {
		reg, err := inf.AddEventHandler(a.index.handler())
		if err != nil {
			return nil, fmt.Errorf("RBAC informer: %w", err)
		}
		a.synced = append(a.synced, reg.HasSynced)
	}
	return a, nil
}

// HasSynced tells whether the index has all objects.
func (a *Authorizer) HasSynced() bool {
	for _, s := range a.synced {
		if !s() {
			return false
		}
	}
	return true
}

func describe(g *grant) string {
	subject := fmt.Sprintf("%s %q", g.subject.Kind, g.subject.Name)
	if g.subject.Kind == rbacv1.ServiceAccountKind {
		ns := g.subject.Namespace
		if ns == "" {
			ns = g.binding.namespace
		}
		subject = fmt.Sprintf("%s %q", g.subject.Kind, g.subject.Name+"/"+ns)
	}
	if g.binding.namespace == "" {
		return fmt.Sprintf("ClusterRoleBinding %q of %s %q to %s", g.binding.name, g.role.Kind, g.role.Name, subject)
	}
	return fmt.Sprintf("RoleBinding %q of %s %q to %s", g.binding.name+"/"+g.binding.namespace, g.role.Kind, g.role.Name, subject)
}

// Authorize allows what a rule allows and has no opinion on the rest.
func (a *Authorizer) Authorize(_ context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	u := attrs.GetUser()
	if u == nil {
		return authorizer.DecisionNoOpinion, "", nil
	}
	var by string
	var errs []error
	visit := func(g *grant, rules []rbacv1.PolicyRule, err error) bool {
		if err != nil {
			errs = append(errs, err)
			return true
		}
		for i := range rules {
			if allows(&rules[i], attrs) {
				by = describe(g)
				return false
			}
		}
		return true
	}
	if a.index.visit(u, "", visit) && attrs.IsResourceRequest() && attrs.GetNamespace() != "" {
		a.index.visit(u, attrs.GetNamespace(), visit)
	}
	if by != "" {
		return authorizer.DecisionAllow, "RBAC: allowed by " + by, nil
	}
	reason := ""
	if len(errs) > 0 {
		reason = fmt.Sprintf("RBAC: %v", joined(errs))
	}
	return authorizer.DecisionNoOpinion, reason, nil
}

// joined is the message of errors as an aggregate prints it.
func joined(errs []error) string {
	seen, out := map[string]bool{}, ""
	for _, e := range errs {
		if m := e.Error(); !seen[m] {
			seen[m] = true
			if out != "" {
				out += ", "
			}
			out += m
		}
	}
	if len(seen) > 1 {
		return "[" + out + "]"
	}
	return out
}

// Rules are all rules that u has in the namespace, cluster-wide ones included.
func (a *Authorizer) Rules(_ context.Context, u user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	var out []rbacv1.PolicyRule
	var errs []error
	visit := func(_ *grant, rules []rbacv1.PolicyRule, err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		out = append(out, rules...)
		return true
	}
	a.index.visit(u, "", visit)
	if namespace != "" {
		a.index.visit(u, namespace, visit)
	}
	return out, errors.Join(errs...)
}

// RoleRules are those of the role that ref names, as seen from a binding in the namespace.
func (a *Authorizer) RoleRules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	a.index.mu.RLock()
	defer a.index.mu.RUnlock()
	return a.index.rulesOf(ref, namespace)
}

// RulesFor implements authorizer.RuleResolver.
func (a *Authorizer) RulesFor(ctx context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	rules, err := a.Rules(ctx, u, namespace)
	var resource []authorizer.ResourceRuleInfo
	var other []authorizer.NonResourceRuleInfo
	for _, r := range rules {
		if len(r.Resources) > 0 {
			resource = append(resource, &authorizer.DefaultResourceRuleInfo{
				Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames,
			})
		}
		if len(r.NonResourceURLs) > 0 {
			other = append(other, &authorizer.DefaultNonResourceRuleInfo{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	return resource, other, false, err
}
