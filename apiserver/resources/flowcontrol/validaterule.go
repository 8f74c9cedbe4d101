package flowcontrol

import (
	"slices"
	"strings"

	v1 "k8s.io/api/flowcontrol/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// verbs are those that a rule can speak of, as messages list them.
var verbs = []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"}

func resourceRule(r *v1.ResourcePolicyRule, at *field.Path) field.ErrorList {
	errs := ruleVerbs(r.Verbs, at.Child("verbs"))
	errs = append(errs, some(r.APIGroups, at.Child("apiGroups"), "resource rules must supply at least one api group", "if '*' is present, must not specify other api groups")...)
	errs = append(errs, some(r.Resources, at.Child("resources"), "resource rules must supply at least one resource", "if '*' is present, must not specify other resources")...)
	at = at.Child("namespaces")
	if len(r.Namespaces) > 0 || !r.ClusterScope {
		errs = append(errs, some(r.Namespaces, at, "resource rules that are not cluster scoped must supply at least one namespace", "if '*' is present, must not specify other namespaces")...)
	}
	if slices.Contains(r.Namespaces, v1.NamespaceEvery) {
		return errs
	}
	for i, name := range r.Namespaces {
		for _, msg := range apivalidation.ValidateNamespaceName(name, false) {
			errs = append(errs, field.Invalid(at.Index(i), name, "each member of this list must be '*' or a DNS-1123 label; "+msg))
		}
	}
	return errs
}

func urlRule(r *v1.NonResourcePolicyRule, at *field.Path) field.ErrorList {
	errs := ruleVerbs(r.Verbs, at.Child("verbs"))
	at = at.Child("nonResourceURLs")
	errs = append(errs, some(r.NonResourceURLs, at, "nonResourceURLs must contain at least one value", "if '*' is present, must not specify other non-resource URLs")...)
	if slices.Contains(r.NonResourceURLs, v1.NonResourceAll) {
		return errs
	}
	for i, path := range r.NonResourceURLs {
		if msg := refusedURL(path); msg != "" {
			errs = append(errs, field.Invalid(at.Index(i), path, msg))
		}
	}
	return errs
}

func ruleVerbs(list []string, at *field.Path) field.ErrorList {
	errs := some(list, at, "verbs must contain at least one value", "if '*' is present, must not specify other verbs")
	unknown := func(verb string) bool { return !slices.Contains(verbs, verb) }
	if !slices.Contains(list, v1.VerbAll) && slices.ContainsFunc(list, unknown) {
		errs = append(errs, field.NotSupported(at, list, verbs))
	}
	return errs
}

// some demands one item at least, and nothing beside the one that stands for all.
func some(list []string, at *field.Path, none, alone string) field.ErrorList {
	switch {
	case len(list) == 0:
		return field.ErrorList{field.Required(at, none)}
	case len(list) > 1 && slices.Contains(list, "*"):
		return field.ErrorList{field.Invalid(at, list, alone)}
	}
	return nil
}

// refusedURL is what is wrong with a path, or nothing.
func refusedURL(path string) string {
	stars := strings.Count(path, "*")
	switch {
	case path == "":
		return "must not be empty"
	case path == "/":
		return ""
	case !strings.HasPrefix(path, "/"):
		return "must start with slash"
	case strings.Contains(path, " "):
		return "must not contain white-space"
	case strings.Contains(path, "//"):
		return "must not contain double slash"
	case stars > 1 || stars == 1 && !strings.HasSuffix(path, "/*"):
		return "wildcard can only do suffix matching"
	}
	return ""
}
