package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// allows tells whether one rule permits the request.
func allows(r *rbacv1.PolicyRule, a authorizer.Attributes) bool {
	if !has(r.Verbs, a.GetVerb()) {
		return false
	}
	if !a.IsResourceRequest() {
		return urlMatches(r.NonResourceURLs, a.GetPath())
	}
	return has(r.APIGroups, a.GetAPIGroup()) &&
		resourceMatches(r.Resources, a.GetResource(), a.GetSubresource()) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.GetName()))
}

func has(list []string, want string) bool {
	for _, v := range list {
		if v == "*" || v == want {
			return true
		}
	}
	return false
}

// resourceMatches knows "*", "pods", "pods/log" and "*/scale".
func resourceMatches(list []string, resource, sub string) bool {
	for _, v := range list {
		if v == "*" {
			return true
		}
		if sub == "" {
			if v == resource {
				return true
			}
			continue
		}
		base, s, ok := strings.Cut(v, "/")
		if ok && s == sub && (base == resource || base == "*") {
			return true
		}
	}
	return false
}

func urlMatches(list []string, path string) bool {
	for _, v := range list {
		if v == "*" || v == path {
			return true
		}
		if strings.HasSuffix(v, "*") && strings.HasPrefix(path, strings.TrimRight(v, "*")) {
			return true
		}
	}
	return false
}
