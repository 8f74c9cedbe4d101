// Package rbac declares the kinds of rbac.authorization.k8s.io.
package rbac

import (
	"context"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{clusterRoles(), clusterRoleBindings(), roles(), roleBindings()}
}

func anyPathName(name string, prefix bool) []string {
	return path.ValidatePathSegmentName(name, prefix)
}

func roles() resources.Resource {
	r := resources.Kind(rbacv1.GroupName, "Role", "roles", true)
	r.Versions = []resources.Version{resources.HubVersion[rbacv1.Role]("v1", resources.Empty[rbacv1.RoleList], nil)}
	r.Columns = table.Columns(table.Name(), table.CreatedAt())
	return resources.Declare(resources.Spec[rbacv1.Role, *rbacv1.Role]{
		Resource: r,
		Strategy: resources.TypedStrategy[rbacv1.Role, *rbacv1.Role]{
			AllowCreateOnUpdate: true, AllowUnconditionalUpdate: true, NameValidation: anyPathName,
			Validate:       func(_ context.Context, o *rbacv1.Role) field.ErrorList { return rules(o.Rules, true, nil) },
			ValidateUpdate: func(_ context.Context, o, _ *rbacv1.Role) field.ErrorList { return rules(o.Rules, true, nil) },
		},
		Row: func(o *rbacv1.Role) []any { return []any{o.Name, table.Created(o.CreationTimestamp)} },
	})
}

func clusterRoles() resources.Resource {
	r := resources.Kind(rbacv1.GroupName, "ClusterRole", "clusterroles", false)
	r.Versions = []resources.Version{resources.HubVersion[rbacv1.ClusterRole]("v1", resources.Empty[rbacv1.ClusterRoleList], nil)}
	r.Columns = table.Columns(table.Name(), table.CreatedAt())
	validate := func(o *rbacv1.ClusterRole) field.ErrorList {
		errs := rules(o.Rules, false, nil)
		if a := o.AggregationRule; a != nil {
			at := field.NewPath("aggregationRule", "clusterRoleSelectors")
			if len(a.ClusterRoleSelectors) == 0 {
				errs = append(errs, field.Required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
			}
			for i := range a.ClusterRoleSelectors {
				errs = append(errs, unversioned.ValidateLabelSelector(&a.ClusterRoleSelectors[i], unversioned.LabelSelectorValidationOptions{}, at.Index(i))...)
			}
		}
		return errs
	}
	return resources.Declare(resources.Spec[rbacv1.ClusterRole, *rbacv1.ClusterRole]{
		Resource: r,
		Strategy: resources.TypedStrategy[rbacv1.ClusterRole, *rbacv1.ClusterRole]{
			AllowCreateOnUpdate: true, AllowUnconditionalUpdate: true, NameValidation: anyPathName,
			Validate:       func(_ context.Context, o *rbacv1.ClusterRole) field.ErrorList { return validate(o) },
			ValidateUpdate: func(_ context.Context, o, _ *rbacv1.ClusterRole) field.ErrorList { return validate(o) },
		},
		Row: func(o *rbacv1.ClusterRole) []any { return []any{o.Name, table.Created(o.CreationTimestamp)} },
	})
}

func rules(list []rbacv1.PolicyRule, namespaced bool, _ *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, r := range list {
		at := field.NewPath("rules").Index(i)
		if len(r.Verbs) == 0 {
			errs = append(errs, field.Required(at.Child("verbs"), "verbs must contain at least one value"))
		}
		if len(r.NonResourceURLs) > 0 {
			if namespaced {
				errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
			}
			if len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames) > 0 {
				errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
			}
			continue
		}
		if len(r.APIGroups) == 0 {
			errs = append(errs, field.Required(at.Child("apiGroups"), "resource rules must supply at least one api group"))
		}
		if len(r.Resources) == 0 {
			errs = append(errs, field.Required(at.Child("resources"), "resource rules must supply at least one resource"))
		}
	}
	return errs
}

var bindingColumns = table.Columns(table.Name(), table.Text("Role", "The role that is bound."), table.Age(),
	table.Wide(table.Text("Users", "Users in the binding.")), table.Wide(table.Text("Groups", "Groups in the binding.")),
	table.Wide(table.Text("ServiceAccounts", "Service accounts in the binding.")))

func bindingCells(ref rbacv1.RoleRef, list []rbacv1.Subject) (role, users, groups, accounts string) {
	var u, g, s []string
	for _, sub := range list {
		switch sub.Kind {
		case rbacv1.ServiceAccountKind:
			s = append(s, sub.Namespace+"/"+sub.Name)
		case rbacv1.UserKind:
			u = append(u, sub.Name)
		case rbacv1.GroupKind:
			g = append(g, sub.Name)
		}
	}
	return ref.Kind + "/" + ref.Name, strings.Join(u, ", "), strings.Join(g, ", "), strings.Join(s, ", ")
}

func defaultSubjects(ref *rbacv1.RoleRef, list []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range list {
		if s := &list[i]; s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}

func binding(ref rbacv1.RoleRef, list []rbacv1.Subject, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	kinds := []string{"ClusterRole"}
	if namespaced {
		kinds = []string{"Role", "ClusterRole"}
	}
	if ref.Kind != "ClusterRole" && !(namespaced && ref.Kind == "Role") {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, kinds))
	}
	if ref.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	} else {
		for _, msg := range path.ValidatePathSegmentName(ref.Name, false) {
			errs = append(errs, field.Invalid(at.Child("name"), ref.Name, msg))
		}
	}
	for i, s := range list {
		at := field.NewPath("subjects").Index(i)
		if s.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
		switch s.Kind {
		case rbacv1.ServiceAccountKind:
			if s.Name != "" {
				for _, msg := range apivalidation.ValidateServiceAccountName(s.Name, false) {
					errs = append(errs, field.Invalid(at.Child("name"), s.Name, msg))
				}
			}
			if s.APIGroup != "" {
				errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{""}))
			}
			if !namespaced && s.Namespace == "" {
				errs = append(errs, field.Required(at.Child("namespace"), ""))
			}
		case rbacv1.UserKind, rbacv1.GroupKind:
			if s.APIGroup != rbacv1.GroupName {
				errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
			}
		default:
			errs = append(errs, field.NotSupported(at.Child("kind"), s.Kind, []string{rbacv1.GroupKind, rbacv1.ServiceAccountKind, rbacv1.UserKind}))
		}
	}
	return errs
}

func sameRole(a, b rbacv1.RoleRef) field.ErrorList {
	if equality.Semantic.DeepEqual(a, b) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("roleRef"), a, "cannot change roleRef")}
}

func roleBindings() resources.Resource {
	r := resources.Kind(rbacv1.GroupName, "RoleBinding", "rolebindings", true)
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[rbacv1.RoleBindingList], func(o *rbacv1.RoleBinding) { defaultSubjects(&o.RoleRef, o.Subjects) })}
	r.Columns = bindingColumns
	return resources.Declare(resources.Spec[rbacv1.RoleBinding, *rbacv1.RoleBinding]{
		Resource: r,
		Strategy: resources.TypedStrategy[rbacv1.RoleBinding, *rbacv1.RoleBinding]{
			AllowCreateOnUpdate: true, AllowUnconditionalUpdate: true, NameValidation: anyPathName,
			Validate: func(_ context.Context, o *rbacv1.RoleBinding) field.ErrorList {
				return binding(o.RoleRef, o.Subjects, true)
			},
			ValidateUpdate: func(_ context.Context, o, old *rbacv1.RoleBinding) field.ErrorList {
				return append(binding(o.RoleRef, o.Subjects, true), sameRole(o.RoleRef, old.RoleRef)...)
			},
		},
		Row: func(o *rbacv1.RoleBinding) []any {
			role, u, g, s := bindingCells(o.RoleRef, o.Subjects)
			return []any{o.Name, role, table.Since(o.CreationTimestamp), u, g, s}
		},
	})
}

func clusterRoleBindings() resources.Resource {
	r := resources.Kind(rbacv1.GroupName, "ClusterRoleBinding", "clusterrolebindings", false)
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[rbacv1.ClusterRoleBindingList], func(o *rbacv1.ClusterRoleBinding) { defaultSubjects(&o.RoleRef, o.Subjects) })}
	r.Columns = bindingColumns
	return resources.Declare(resources.Spec[rbacv1.ClusterRoleBinding, *rbacv1.ClusterRoleBinding]{
		Resource: r,
		Strategy: resources.TypedStrategy[rbacv1.ClusterRoleBinding, *rbacv1.ClusterRoleBinding]{
			AllowCreateOnUpdate: true, AllowUnconditionalUpdate: true, NameValidation: anyPathName,
			Validate: func(_ context.Context, o *rbacv1.ClusterRoleBinding) field.ErrorList {
				return binding(o.RoleRef, o.Subjects, false)
			},
			ValidateUpdate: func(_ context.Context, o, old *rbacv1.ClusterRoleBinding) field.ErrorList {
				return append(binding(o.RoleRef, o.Subjects, false), sameRole(o.RoleRef, old.RoleRef)...)
			},
		},
		Row: func(o *rbacv1.ClusterRoleBinding) []any {
			role, u, g, s := bindingCells(o.RoleRef, o.Subjects)
			return []any{o.Name, role, table.Since(o.CreationTimestamp), u, g, s}
		},
	})
}
