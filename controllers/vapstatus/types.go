package vapstatus

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	admission "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/cel"
)

const (
	// maxTypes is how many types a policy is checked against.
	maxTypes = 10
	// maxVersions bounds the questions that a policy's rules lead to: they may
	// name any number of groups and versions that are not there.
	maxVersions = 50
)

// object is a kind with the type of its objects.
type object struct {
	kind schema.GroupVersionKind
	decl *cel.DeclType
}

// types are what a policy is checked against.
type types struct {
	objects []object // by the text of their kinds
	// params is the type of the policy's params; nil where it is unknown.
	params *cel.DeclType
}

// typesOf are the types of a policy. An error tells of those that could not be
// read, and the others are there all the same.
func (s *schemas) typesOf(ctx context.Context, p *admission.ValidatingAdmissionPolicy) (types, error) {
	kinds, err := s.kinds(ctx, p.Spec.MatchConstraints)
	errs := []error{err}
	var out types
	for _, k := range kinds {
		decl, err := s.decl(ctx, k, "kubernetes.object")
		errs = append(errs, err)
		if decl != nil {
			out.objects = append(out.objects, object{k, decl})
		}
	}
	if k := p.Spec.ParamKind; k != nil {
		if gv, err := schema.ParseGroupVersion(k.APIVersion); err == nil {
			out.params, err = s.decl(ctx, gv.WithKind(k.Kind), "kubernetes.params")
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// kinds are those of the resources that the rules name, at most maxTypes of them.
// What a star stands for is not looked up, nor are subresources.
func (s *schemas) kinds(ctx context.Context, m *admission.MatchResources) ([]schema.GroupVersionKind, error) {
	if m == nil {
		return nil, nil
	}
	var out []schema.GroupVersionKind
	var errs []error
	asked := map[schema.GroupVersion]bool{}
	for gvr := range named(m.ResourceRules) {
		if len(out) == maxTypes {
			break
		}
		gv := gvr.GroupVersion()
		if !asked[gv] && len(asked) == maxVersions {
			break
		}
		asked[gv] = true
		kinds, err := s.resources(ctx, gv)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if k, ok := kinds[gvr.Resource]; ok && !slices.Contains(out, gv.WithKind(k)) {
			out = append(out, gv.WithKind(k))
		}
	}
	slices.SortFunc(out, func(a, b schema.GroupVersionKind) int { return cmp.Compare(a.String(), b.String()) })
	return out, errors.Join(errs...)
}

// named yields the resources that rules name outright, in the rules' order.
func named(rules []admission.NamedRuleWithOperations) iter.Seq[schema.GroupVersionResource] {
	return func(yield func(schema.GroupVersionResource) bool) {
		for _, r := range rules {
			if slices.Contains(r.APIGroups, "*") || slices.Contains(r.APIVersions, "*") {
				continue
			}
			for _, group := range r.APIGroups {
				for _, version := range r.APIVersions {
					for _, resource := range r.Resources {
						if strings.ContainsAny(resource, "*/") {
							continue
						}
						if !yield(schema.GroupVersionResource{Group: group, Version: version, Resource: resource}) {
							return
						}
					}
				}
			}
		}
	}
}
