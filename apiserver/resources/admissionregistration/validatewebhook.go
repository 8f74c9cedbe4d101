package admissionregistration

import (
	"fmt"
	"net/url"
	"strings"

	v1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/admission/expressions"
)

// hook is what webhooks of both kinds have.
type hook struct {
	name                string
	client              v1.WebhookClientConfig
	rules               []v1.RuleWithOperations
	failure             *v1.FailurePolicyType
	match               *v1.MatchPolicyType
	reinvocation        *v1.ReinvocationPolicyType
	namespaces, objects *metav1.LabelSelector
	effects             *v1.SideEffectClass
	timeout             *int32
	versions            []string
	conditions          []v1.MatchCondition
}

// hooks returns every error of a configuration's webhooks.
func (c *checker) hooks(list []hook) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range list {
		h, at := &list[i], field.NewPath("webhooks").Index(i)
		errs = append(errs, validation.IsFullyQualifiedName(at.Child("name"), h.name)...)
		errs = append(errs, c.hook(h, at)...)
		errs = append(errs, reviewVersions(h.versions, at.Child("admissionReviewVersions"))...)
		if names[h.name] {
			errs = append(errs, field.Duplicate(at.Child("name"), h.name))
		}
		names[h.name] = true
	}
	return errs
}

func (c *checker) hook(h *hook, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range h.rules {
		errs = append(errs, rule(&h.rules[i], at.Child("rules").Index(i))...)
	}
	if f := h.failure; f != nil && *f != v1.Fail && *f != v1.Ignore {
		errs = append(errs, field.NotSupported(at.Child("failurePolicy"), *f, []v1.FailurePolicyType{v1.Fail, v1.Ignore}))
	}
	if m := h.match; m != nil && *m != v1.Exact && *m != v1.Equivalent {
		errs = append(errs, field.NotSupported(at.Child("matchPolicy"), *m, []v1.MatchPolicyType{v1.Equivalent, v1.Exact}))
	}
	switch e := h.effects; {
	case e == nil:
		errs = append(errs, field.Required(at.Child("sideEffects"), "must specify one of None, NoneOnDryRun"))
	case *e != v1.SideEffectClassNone && *e != v1.SideEffectClassNoneOnDryRun:
		errs = append(errs, field.NotSupported(at.Child("sideEffects"), *e, []v1.SideEffectClass{v1.SideEffectClassNone, v1.SideEffectClassNoneOnDryRun}))
	}
	if t := h.timeout; t != nil && (*t < 1 || *t > 30) {
		errs = append(errs, field.Invalid(at.Child("timeoutSeconds"), *t, "the timeout value must be between 1 and 30 seconds"))
	}
	errs = append(errs, unversioned.ValidateLabelSelector(h.namespaces, unversioned.LabelSelectorValidationOptions{}, at.Child("namespaceSelector"))...)
	errs = append(errs, unversioned.ValidateLabelSelector(h.objects, unversioned.LabelSelectorValidationOptions{}, at.Child("objectSelector"))...)
	if r := h.reinvocation; r != nil && *r != v1.NeverReinvocationPolicy && *r != v1.IfNeededReinvocationPolicy {
		errs = append(errs, field.NotSupported(at.Child("reinvocationPolicy"), *r, []v1.ReinvocationPolicyType{v1.IfNeededReinvocationPolicy, v1.NeverReinvocationPolicy}))
	}
	errs = append(errs, clientConfig(&h.client, at.Child("clientConfig"))...)
	return append(errs, c.conditions(h.conditions, expressions.Scope{}, at.Child("matchConditions"))...)
}

func reviewVersions(list []string, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "must specify one of v1, v1beta1")}
	}
	var errs field.ErrorList
	seen, known := map[string]bool{}, false
	for i, v := range list {
		for _, msg := range validation.IsDNS1035Label(v) {
			errs = append(errs, field.Invalid(at.Index(i), v, msg))
		}
		if seen[v] {
			errs = append(errs, field.Invalid(at.Index(i), v, "duplicate version"))
		}
		seen[v] = true
		known = known || v == "v1" || v == "v1beta1"
	}
	if !known {
		errs = append(errs, field.Invalid(at, list, "must include at least one of v1, v1beta1"))
	}
	return errs
}

func clientConfig(c *v1.WebhookClientConfig, at *field.Path) field.ErrorList {
	switch {
	case (c.URL == nil) == (c.Service == nil):
		return field.ErrorList{field.Required(at, "exactly one of url or service is required")}
	case c.URL != nil:
		return hookURL(*c.URL, at.Child("url"))
	}
	at = at.Child("service")
	var errs field.ErrorList
	// Each is told at the other's place, as clients know it from Kubernetes.
	if c.Service.Namespace == "" {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	if c.Service.Name == "" {
		errs = append(errs, field.Required(at.Child("namespace"), ""))
	}
	if p := c.Service.Port; p != nil {
		for _, msg := range validation.IsValidPortNum(int(*p)) {
			errs = append(errs, field.Invalid(at.Child("port"), *p, "port is not valid: "+msg))
		}
	}
	if c.Service.Path != nil {
		errs = append(errs, servicePath(*c.Service.Path, at.Child("path"))...)
	}
	return errs
}

func hookURL(text string, at *field.Path) field.ErrorList {
	const form = "; desired format: https://host[/path]"
	u, err := url.Parse(text)
	if err != nil {
		return field.ErrorList{field.Required(at, "url must be a valid URL: "+err.Error()+form)}
	}
	var errs field.ErrorList
	if u.Scheme != "https" {
		errs = append(errs, field.Invalid(at, u.Scheme, "'https' is the only allowed URL scheme"+form))
	}
	if u.Host == "" {
		errs = append(errs, field.Invalid(at, u.Host, "host must be specified"+form))
	}
	if u.User != nil {
		errs = append(errs, field.Invalid(at, u.User.String(), "user information is not permitted in the URL"))
	}
	if u.Fragment != "" {
		errs = append(errs, field.Invalid(at, u.Fragment, "fragments are not permitted in the URL"))
	}
	if u.RawQuery != "" {
		errs = append(errs, field.Invalid(at, u.RawQuery, "query parameters are not permitted in the URL"))
	}
	return errs
}

func servicePath(text string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case text == "/" || text == "":
		return nil
	case text == "//":
		return field.ErrorList{field.Invalid(at, text, "segment[0] may not be empty")}
	case !strings.HasPrefix(text, "/"):
		errs = append(errs, field.Invalid(at, text, "must start with a '/'"))
	}
	for i, segment := range strings.Split(strings.TrimSuffix(text[1:], "/"), "/") {
		if segment == "" {
			errs = append(errs, field.Invalid(at, text, fmt.Sprintf("segment[%d] may not be empty", i)))
			continue
		}
		for _, msg := range validation.IsDNS1123Subdomain(segment) {
			errs = append(errs, field.Invalid(at, text, fmt.Sprintf("segment[%d]: %v", i, msg)))
		}
	}
	return errs
}

// ruleResources are RESOURCE or RESOURCE/SUBRESOURCE, of which none may cover another.
func ruleResources(list []string, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	whole := map[string]bool{}
	has := map[string]bool{}
	subOfAny := map[string]bool{}
	for i, r := range list {
		at := at.Index(i)
		res, sub, nested := strings.Cut(r, "/")
		if r == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		has[r] = true
		if !nested {
			continue
		}
		if whole[res] {
			errs = append(errs, field.Invalid(at, r, fmt.Sprintf("if '%s/*' is present, must not specify %s", res, r)))
		}
		if subOfAny[sub] {
			errs = append(errs, field.Invalid(at, r, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, r)))
		}
		whole[res] = whole[res] || sub == "*"
		subOfAny[sub] = subOfAny[sub] || res == "*"
	}
	if len(list) > 1 && has["*/*"] {
		errs = append(errs, field.Invalid(at, list, "if '*/*' is present, must not specify other resources"))
	}
	if has["*"] {
		for _, r := range list {
			if !strings.Contains(r, "/") && r != "*" {
				errs = append(errs, field.Invalid(at, list, "if '*' is present, must not specify other resources without subresources"))
				break
			}
		}
	}
	return errs
}
