package resourcequota

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/admission"
	"skiff/quota"
)

// kinds of the plugin's configuration, by version.
var kinds = map[string]string{
	"apiserver.config.k8s.io/v1":              "ResourceQuotaConfiguration",
	"resourcequota.admission.k8s.io/v1beta1":  "Configuration",
	"resourcequota.admission.k8s.io/v1alpha1": "Configuration",
}

// limit is what may only be used where a quota covers it: of a resource the amounts
// whose names contain one of the texts, and the objects in one of the scopes.
type limit struct {
	APIGroup      string                                 `json:"apiGroup"`
	Resource      string                                 `json:"resource"`
	MatchContains []string                               `json:"matchContains"`
	MatchScopes   []v1.ScopedResourceSelectorRequirement `json:"matchScopes"`
}

type limits []limit

// readLimits reads the plugin's configuration; none limits nothing.
func readLimits(text []byte) (limits, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var c struct {
		metav1.TypeMeta  `json:",inline"`
		LimitedResources limits `json:"limitedResources"`
	}
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return nil, fmt.Errorf("%s: configuration: %w", Name, err)
	}
	if want, ok := kinds[c.APIVersion]; !ok || c.Kind != want {
		return nil, fmt.Errorf("%s: configuration: no kind %q is registered for version %q: use ResourceQuotaConfiguration of apiserver.config.k8s.io/v1", Name, c.Kind, c.APIVersion)
	}
	var errs []error
	for i, l := range c.LimitedResources {
		if l.Resource == "" {
			errs = append(errs, field.Required(field.NewPath("limitedResources").Index(i).Child("resource"), ""))
		}
	}
	return c.LimitedResources, errors.Join(errs...)
}

// of are those of a resource.
func (l limits) of(r schema.GroupResource) limits {
	var out limits
	for _, one := range l {
		if one.APIGroup == r.Group && one.Resource == r.Resource {
			out = append(out, one)
		}
	}
	return out
}

// check refuses a request for what is limited where none of the quotas covers it.
func (l limits) check(a *admission.Attributes, e quota.Evaluator, quotas []*v1.ResourceQuota) error {
	if len(l) == 0 {
		return nil
	}
	usage, err := e.Usage(a.Object)
	if err != nil {
		return err
	}
	var scopes []v1.ScopedResourceSelectorRequirement
	for _, one := range l {
		if scopes, err = covering(scopes, e, one.MatchScopes, a); err != nil {
			return err
		}
	}
	var covered []v1.ResourceName
	var held []v1.ScopedResourceSelectorRequirement
	for _, q := range quotas {
		if held, err = covering(held, e, quota.Selectors(q), a); err != nil {
			return err
		}
		match, err := quota.Matches(e, q, a.Object)
		if err != nil {
			return err
		}
		if match {
			covered = append(covered, quota.Tracked(e, quota.Names(q.Status.Hard))...)
		}
	}
	if open := slices.DeleteFunc(l.named(usage), func(n v1.ResourceName) bool { return slices.Contains(covered, n) }); len(open) > 0 {
		return admission.Forbidden(a, fmt.Errorf("insufficient quota to consume: %s", join(open)))
	}
	open := slices.DeleteFunc(scopes, func(s v1.ScopedResourceSelectorRequirement) bool {
		return slices.ContainsFunc(held, func(h v1.ScopedResourceSelectorRequirement) bool { return h.ScopeName == s.ScopeName })
	})
	if len(open) > 0 {
		return fmt.Errorf("insufficient quota to match these scopes: %v", open)
	}
	return nil
}

// named are the names of what is used and limited.
func (l limits) named(usage v1.ResourceList) []v1.ResourceName {
	var out []v1.ResourceName
	for name, amount := range usage {
		for _, one := range l {
			if amount.Sign() > 0 && slices.ContainsFunc(one.MatchContains, func(part string) bool { return strings.Contains(string(name), part) }) {
				out = append(out, name)
				break
			}
		}
	}
	return out
}

// covering appends the selectors that cover the object.
func covering(to []v1.ScopedResourceSelectorRequirement, e quota.Evaluator, selectors []v1.ScopedResourceSelectorRequirement, a *admission.Attributes) ([]v1.ScopedResourceSelectorRequirement, error) {
	for _, s := range selectors {
		in, err := e.InScope(s, a.Object)
		if err != nil {
			return nil, err
		}
		if in {
			to = append(to, s)
		}
	}
	return to, nil
}
