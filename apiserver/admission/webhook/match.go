// Package webhook asks the admission webhooks that clusters register.
package webhook

import (
	"slices"
	"strings"

	arv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
)

// exempted are the resources that are never sent, by their groups: with those of
// admission a broken webhook could not be repaired, and with the questions about who
// one is and what one may do a webhook could not answer its own.
var exempted = map[string][]string{
	arv1.GroupName: {"validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies", "validatingadmissionpolicybindings",
		"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"},
	"authentication.k8s.io": {"selfsubjectreviews", "tokenreviews"},
	"authorization.k8s.io":  {"localsubjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews"},
}

func exempt(gr schema.GroupResource) bool { return slices.Contains(exempted[gr.Group], gr.Resource) }

// Rules finds the version in which the request is covered by the rules. With
// equivalent, another version of the same resource will do.
func Rules(rules []arv1.RuleWithOperations, equivalent bool, a *admission.Attributes) (schema.GroupVersionResource, bool) {
	for i := range rules {
		if ruleMatches(&rules[i], a, a.Resource.Version) {
			return a.Resource, true
		}
	}
	if !equivalent {
		return schema.GroupVersionResource{}, false
	}
	for i := range rules {
		for _, v := range rules[i].APIVersions {
			if v != "*" && ruleMatches(&rules[i], a, v) {
				return a.Resource.GroupResource().WithVersion(v), true
			}
		}
	}
	return schema.GroupVersionResource{}, false
}

func ruleMatches(r *arv1.RuleWithOperations, a *admission.Attributes, version string) bool {
	has := func(list []string, v string) bool { return slices.Contains(list, "*") || slices.Contains(list, v) }
	if !slices.Contains(r.Operations, arv1.OperationAll) && !slices.Contains(r.Operations, arv1.OperationType(a.Operation)) {
		return false
	}
	if !has(r.APIGroups, a.Resource.Group) || !has(r.APIVersions, version) {
		return false
	}
	switch ptr.Deref(r.Scope, arv1.AllScopes) {
	case arv1.NamespacedScope:
		if a.Namespace == "" || a.GroupResource() == (schema.GroupResource{Resource: "namespaces"}) {
			return false
		}
	case arv1.ClusterScope:
		if a.Namespace != "" && a.GroupResource() != (schema.GroupResource{Resource: "namespaces"}) {
			return false
		}
	}
	return slices.ContainsFunc(r.Resources, func(s string) bool {
		res, sub, _ := strings.Cut(s, "/")
		return (res == "*" || res == a.Resource.Resource) && (sub == "*" || sub == a.Subresource)
	})
}

// ObjectMatches tests the object selector against either object.
func ObjectMatches(s *metav1.LabelSelector, a *admission.Attributes) (bool, error) {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return false, err
	}
	if s == nil || sel.Empty() {
		return true, nil
	}
	for _, o := range []runtime.Object{a.Object, a.OldObject} {
		if o == nil {
			continue
		}
		if m, err := meta.Accessor(o); err == nil && sel.Matches(labels.Set(m.GetLabels())) {
			return true, nil
		}
	}
	return false, nil
}
