// Package clusterroleaggregation fills aggregated ClusterRoles with the rules of
// the roles that their selectors match.
package clusterroleaggregation

import (
	"cmp"
	"context"
	"slices"

	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"

	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller fills aggregated roles.
type Controller struct {
	*loop.Loop
	parts loop.Parts
	roles rbaclisters.ClusterRoleLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("clusterrole-aggregation")
	if err != nil {
		return nil, err
	}
	roles := parts.Informers.Rbac().V1().ClusterRoles()
	a := &Controller{parts: parts, roles: roles.Lister()}
	a.Loop = loop.New("clusterrole-aggregation", parts, a.sync)
	// Any role may be part of any aggregated one.
	a.On(roles.Informer(), loop.Each(func(*rbac.ClusterRole) {
		all, err := a.roles.List(labels.Everything())
		if err != nil {
			return
		}
		for _, r := range all {
			if r.AggregationRule != nil {
				a.Add(r.Name)
			}
		}
	}))
	return a, nil
}

// Rules joins the rules of the roles that the aggregation matches, each once,
// in the order of the selectors and of the roles' names.
func Rules(role *rbac.ClusterRole, all []*rbac.ClusterRole) ([]rbac.PolicyRule, error) {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b *rbac.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
	var out []rbac.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, err
		}
		for _, r := range sorted {
			if r.Name == role.Name || !selector.Matches(labels.Set(r.Labels)) {
				continue
			}
			for _, rule := range r.Rules {
				if !slices.ContainsFunc(out, func(o rbac.PolicyRule) bool { return equality.Semantic.DeepEqual(o, rule) }) {
					out = append(out, rule)
				}
			}
		}
	}
	return out, nil
}

func (c *Controller) sync(ctx context.Context, name string) error {
	role, err := c.roles.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if role.AggregationRule == nil {
		return nil
	}
	all, err := c.roles.List(labels.Everything())
	if err != nil {
		return err
	}
	rules, err := Rules(role, all)
	if err != nil || equality.Semantic.DeepEqual(rules, role.Rules) {
		return err
	}
	next := role.DeepCopy()
	next.Rules = rules
	_, err = c.parts.Client.RbacV1().ClusterRoles().Update(ctx, next, metav1.UpdateOptions{})
	return err
}
