// Package quota knows what objects cost: the quota controller counts with it
// what exists, and admission what a request would add. It is pure; who uses it
// brings the objects.
package quota

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Evaluator counts the objects of one resource.
type Evaluator interface {
	// Resource is what the evaluator counts.
	Resource() schema.GroupResource
	// Tracks says whether the evaluator counts the quota's resource name.
	Tracks(name v1.ResourceName) bool
	// Usage is what the object costs.
	Usage(obj runtime.Object) (v1.ResourceList, error)
	// Constrain refuses an object that leaves out what the quota counts.
	Constrain(required []v1.ResourceName, obj runtime.Object) error
	// InScope says whether a scope selector covers the object.
	InScope(selector v1.ScopedResourceSelectorRequirement, obj runtime.Object) (bool, error)
	// CountsUpdate says whether a change of an object (of the subresource, or
	// of the main resource when empty) can cost more than before.
	CountsUpdate(subresource string) bool
}

// Evaluators are those with rules of their own; every other resource is
// counted by Objects. now tells time for pods that are past their deletion; extended
// the resource that a device class stands for in pods, "" where there is none.
func Evaluators(now func() time.Time, extended func(class string) string) []Evaluator {
	return []Evaluator{
		Pods{Now: now}, Services{}, Claims{}, ResourceClaims{Extended: extended},
		Objects{Of: schema.GroupResource{Resource: "configmaps"}, Alias: v1.ResourceConfigMaps},
		Objects{Of: schema.GroupResource{Resource: "resourcequotas"}, Alias: v1.ResourceQuotas},
		Objects{Of: schema.GroupResource{Resource: "replicationcontrollers"}, Alias: v1.ResourceReplicationControllers},
		Objects{Of: schema.GroupResource{Resource: "secrets"}, Alias: v1.ResourceSecrets},
	}
}

// For finds the evaluator of a resource, the counting one when it has no own.
func For(all []Evaluator, r schema.GroupResource) Evaluator {
	for _, e := range all {
		if e.Resource() == r {
			return e
		}
	}
	return Objects{Of: r}
}

// CountName is the name under which a quota bounds the number of objects.
func CountName(r schema.GroupResource) v1.ResourceName {
	if r.Group == "" {
		return v1.ResourceName("count/" + r.Resource)
	}
	return v1.ResourceName("count/" + r.Resource + "." + r.Group)
}

// CountedResource is the reverse of CountName.
func CountedResource(name v1.ResourceName) (schema.GroupResource, bool) {
	rest, ok := strings.CutPrefix(string(name), "count/")
	if !ok {
		return schema.GroupResource{}, false
	}
	return schema.ParseGroupResource(rest), true
}

// Tracked keeps the names that the evaluator counts.
func Tracked(e Evaluator, names []v1.ResourceName) []v1.ResourceName {
	var out []v1.ResourceName
	for _, n := range names {
		if e.Tracks(n) {
			out = append(out, n)
		}
	}
	return out
}

// Selectors are the quota's scopes in one form.
func Selectors(q *v1.ResourceQuota) []v1.ScopedResourceSelectorRequirement {
	var out []v1.ScopedResourceSelectorRequirement
	for _, s := range q.Spec.Scopes {
		out = append(out, v1.ScopedResourceSelectorRequirement{ScopeName: s, Operator: v1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		out = append(out, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return out
}

// Matches says whether the quota bounds the object: it counts something that
// the evaluator knows, and every scope covers the object.
func Matches(e Evaluator, q *v1.ResourceQuota, obj runtime.Object) (bool, error) {
	if len(Tracked(e, Names(q.Status.Hard))) == 0 && len(Tracked(e, Names(q.Spec.Hard))) == 0 {
		return false, nil
	}
	return InScopes(e, Selectors(q), obj)
}

// InScopes says whether every selector covers the object.
func InScopes(e Evaluator, selectors []v1.ScopedResourceSelectorRequirement, obj runtime.Object) (bool, error) {
	for _, s := range selectors {
		ok, err := e.InScope(s, obj)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// Used sums what the objects in the quota's scopes cost, of the names that the
// quota bounds.
func Used(e Evaluator, q *v1.ResourceQuota, objs []runtime.Object) (v1.ResourceList, error) {
	names := Tracked(e, Names(q.Spec.Hard))
	out := Zero(names)
	selectors := Selectors(q)
	for _, obj := range objs {
		ok, err := InScopes(e, selectors, obj)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		usage, err := e.Usage(obj)
		if err != nil {
			return nil, err
		}
		out = Add(out, Mask(usage, names))
	}
	return out, nil
}

// Objects counts the objects of a resource that has no other cost.
type Objects struct {
	Of schema.GroupResource
	// Alias is a second name of the count, from before count/ existed.
	Alias v1.ResourceName
}

// Resource is what the evaluator counts.
func (o Objects) Resource() schema.GroupResource { return o.Of }

// Tracks says whether name is the count or its alias.
func (o Objects) Tracks(name v1.ResourceName) bool {
	return name == CountName(o.Of) || o.Alias != "" && name == o.Alias
}

// Usage is one.
func (o Objects) Usage(runtime.Object) (v1.ResourceList, error) {
	out := v1.ResourceList{CountName(o.Of): one()}
	if o.Alias != "" {
		out[o.Alias] = one()
	}
	return out, nil
}

// Constrain accepts every object.
func (Objects) Constrain([]v1.ResourceName, runtime.Object) error { return nil }

// InScope is false: these objects have no scopes.
func (Objects) InScope(v1.ScopedResourceSelectorRequirement, runtime.Object) (bool, error) {
	return false, nil
}

// CountsUpdate is false: a change adds no object.
func (Objects) CountsUpdate(string) bool { return false }

func matchValue(s v1.ScopedResourceSelectorRequirement, value string, present bool) (bool, error) {
	switch s.Operator {
	case v1.ScopeSelectorOpExists:
		return present, nil
	case v1.ScopeSelectorOpDoesNotExist:
		return !present, nil
	case v1.ScopeSelectorOpIn:
		return present && slices.Contains(s.Values, value), nil
	case v1.ScopeSelectorOpNotIn:
		return !slices.Contains(s.Values, value), nil
	}
	return false, fmt.Errorf("scope %s: operator %q is unknown: use In, NotIn, Exists or DoesNotExist", s.ScopeName, s.Operator)
}
