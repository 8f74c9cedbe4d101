// Package admissionregistration declares the kinds of admissionregistration.k8s.io.
package admissionregistration

import (
	"context"

	v1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

const category = "api-extensions"

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{
		mutatingWebhooks(), validatingWebhooks(),
		plain[v1.MutatingAdmissionPolicy, *v1.MutatingAdmissionPolicy]("MutatingAdmissionPolicy", "mutatingadmissionpolicies", resources.Empty[v1.MutatingAdmissionPolicyList], func(o *v1.MutatingAdmissionPolicy) {
			setDefault(&o.Spec.FailurePolicy, v1.Fail)
			defaultMatch(o.Spec.MatchConstraints)
		}, mutatingPolicyVersions, newChecker().mutating),
		plain[v1.MutatingAdmissionPolicyBinding, *v1.MutatingAdmissionPolicyBinding]("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", resources.Empty[v1.MutatingAdmissionPolicyBindingList], func(o *v1.MutatingAdmissionPolicyBinding) {
			defaultMatch(o.Spec.MatchResources)
		}, mutatingBindingVersions, validateMutatingBinding),
		validatingPolicies(),
		plain[v1.ValidatingAdmissionPolicyBinding, *v1.ValidatingAdmissionPolicyBinding]("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", resources.Empty[v1.ValidatingAdmissionPolicyBindingList], func(o *v1.ValidatingAdmissionPolicyBinding) {
			defaultMatch(o.Spec.MatchResources)
		}, nil, validateBinding),
	}
}

func setDefault[T any](at **T, value T) {
	if *at == nil {
		*at = &value
	}
}

func defaultMatch(m *v1.MatchResources) {
	if m == nil {
		return
	}
	setDefault(&m.MatchPolicy, v1.Equivalent)
	setDefault(&m.NamespaceSelector, metav1.LabelSelector{})
	setDefault(&m.ObjectSelector, metav1.LabelSelector{})
	for i := range m.ResourceRules {
		setDefault(&m.ResourceRules[i].Scope, v1.AllScopes)
	}
	for i := range m.ExcludeResourceRules {
		setDefault(&m.ExcludeResourceRules[i].Scope, v1.AllScopes)
	}
}

func kind(k, plural string) resources.Resource {
	r := resources.Kind(v1.GroupName, k, plural, false)
	r.Categories = []string{category}
	return r
}

func plain[T any, P resources.Object[T]](k, plural string, list func() runtime.Object, def func(P), others func(func(P)) []resources.Version, validate func(P) field.ErrorList) resources.Resource {
	r := kind(k, plural)
	r.Versions = []resources.Version{resources.HubVersion[T, P]("v1", list, def)}
	if others != nil {
		r.Versions = append(r.Versions, others(def)...)
	}
	r.Columns = policyColumns(k)
	return resources.Declare(resources.Spec[T, P]{
		Resource: r,
		Row:      func(o P) []any { return policyRow(o) },
		Strategy: resources.TypedStrategy[T, P]{Metadata: resources.MetadataRules{NamesOnUpdate: true, AnyFinalizer: true}, Generation: true,
			Validate:       func(_ context.Context, o P) field.ErrorList { return validate(o) },
			ValidateUpdate: func(_ context.Context, o, _ P) field.ErrorList { return validate(o) }},
	})
}

func validatingPolicies() resources.Resource {
	type policy = v1.ValidatingAdmissionPolicy
	r := kind("ValidatingAdmissionPolicy", "validatingadmissionpolicies")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[v1.ValidatingAdmissionPolicyList], func(o *policy) {
		setDefault(&o.Spec.FailurePolicy, v1.Fail)
		defaultMatch(o.Spec.MatchConstraints)
	})}
	r.Columns = table.Columns(table.Name(), table.Int("Validations", "How many expressions it has."), table.Text("ParamKind", "The kind of its parameters."), table.Age())
	cel := newChecker()
	main, view := resources.SpecStatus(resources.TypedStrategy[policy, *policy]{Metadata: resources.MetadataRules{NamesOnUpdate: true, AnyFinalizer: true}, Generation: true,
		Validate:       func(_ context.Context, o *policy) field.ErrorList { return cel.policy(o) },
		ValidateUpdate: func(_ context.Context, o, _ *policy) field.ErrorList { return cel.policy(o) }},
		func(o *policy) *v1.ValidatingAdmissionPolicySpec { return &o.Spec }, func(o *policy) *v1.ValidatingAdmissionPolicyStatus { return &o.Status })
	view.ValidateUpdate = func(_ context.Context, o, _ *policy) field.ErrorList {
		return resources.ValidConditions(o.Status.Conditions)
	}
	return resources.Declare(resources.Spec[policy, *policy]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *policy) []any {
			param := "<unset>"
			if p := o.Spec.ParamKind; p != nil {
				param = p.APIVersion + "/" + p.Kind
			}
			return []any{o.Name, int64(len(o.Spec.Validations)), param, table.Since(o.CreationTimestamp)}
		},
	})
}

func mutatingWebhooks() resources.Resource {
	type config = v1.MutatingWebhookConfiguration
	r := kind("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[v1.MutatingWebhookConfigurationList], func(o *config) {
		for i := range o.Webhooks {
			h := &o.Webhooks[i]
			defaultHook(&h.FailurePolicy, &h.MatchPolicy, &h.NamespaceSelector, &h.ObjectSelector, &h.TimeoutSeconds, &h.ClientConfig, h.Rules)
			setDefault(&h.ReinvocationPolicy, v1.NeverReinvocationPolicy)
		}
	})}
	r.Columns = table.Columns(table.Name(), table.Int("Webhooks", "How many webhooks it has."), table.Age())
	cel := newChecker()
	check := func(o *config) field.ErrorList {
		list := make([]hook, len(o.Webhooks))
		for i, h := range o.Webhooks {
			list[i] = hook{h.Name, h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.ReinvocationPolicy, h.NamespaceSelector, h.ObjectSelector,
				h.SideEffects, h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions}
		}
		return cel.hooks(list)
	}
	return resources.Declare(resources.Spec[config, *config]{
		Resource: r,
		Strategy: resources.TypedStrategy[config, *config]{Metadata: resources.MetadataRules{NamesOnUpdate: true, AnyFinalizer: true}, Generation: true,
			Validate:       func(_ context.Context, o *config) field.ErrorList { return check(o) },
			ValidateUpdate: func(_ context.Context, o, _ *config) field.ErrorList { return check(o) }},
		Row: func(o *config) []any { return []any{o.Name, int64(len(o.Webhooks)), table.Since(o.CreationTimestamp)} },
	})
}

func validatingWebhooks() resources.Resource {
	type config = v1.ValidatingWebhookConfiguration
	r := kind("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[v1.ValidatingWebhookConfigurationList], func(o *config) {
		for i := range o.Webhooks {
			h := &o.Webhooks[i]
			defaultHook(&h.FailurePolicy, &h.MatchPolicy, &h.NamespaceSelector, &h.ObjectSelector, &h.TimeoutSeconds, &h.ClientConfig, h.Rules)
		}
	})}
	r.Columns = table.Columns(table.Name(), table.Int("Webhooks", "How many webhooks it has."), table.Age())
	cel := newChecker()
	check := func(o *config) field.ErrorList {
		list := make([]hook, len(o.Webhooks))
		for i, h := range o.Webhooks {
			list[i] = hook{h.Name, h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, nil, h.NamespaceSelector, h.ObjectSelector,
				h.SideEffects, h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions}
		}
		return cel.hooks(list)
	}
	return resources.Declare(resources.Spec[config, *config]{
		Resource: r,
		Strategy: resources.TypedStrategy[config, *config]{Metadata: resources.MetadataRules{NamesOnUpdate: true, AnyFinalizer: true}, Generation: true,
			Validate:       func(_ context.Context, o *config) field.ErrorList { return check(o) },
			ValidateUpdate: func(_ context.Context, o, _ *config) field.ErrorList { return check(o) }},
		Row: func(o *config) []any { return []any{o.Name, int64(len(o.Webhooks)), table.Since(o.CreationTimestamp)} },
	})
}

func defaultHook(fail **v1.FailurePolicyType, match **v1.MatchPolicyType, ns, obj **metav1.LabelSelector, timeout **int32, c *v1.WebhookClientConfig, rules []v1.RuleWithOperations) {
	setDefault(fail, v1.Fail)
	setDefault(match, v1.Equivalent)
	setDefault(ns, metav1.LabelSelector{})
	setDefault(obj, metav1.LabelSelector{})
	setDefault(timeout, 10)
	if c.Service != nil {
		setDefault(&c.Service.Port, 443)
	}
	for i := range rules {
		setDefault(&rules[i].Scope, v1.AllScopes)
	}
}
