package webhook

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// spec is the question that a request raises.
func spec(a authorizer.Attributes) authorizationv1.SubjectAccessReviewSpec {
	var out authorizationv1.SubjectAccessReviewSpec
	if u := a.GetUser(); u != nil {
		out.User, out.UID, out.Groups = u.GetName(), u.GetUID(), u.GetGroups()
		if extra := u.GetExtra(); extra != nil {
			out.Extra = make(map[string]authorizationv1.ExtraValue, len(extra))
			for k, v := range extra {
				out.Extra[k] = v
			}
		}
	}
	if !a.IsResourceRequest() {
		out.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: a.GetPath(), Verb: a.GetVerb()}
		return out
	}
	res := &authorizationv1.ResourceAttributes{
		Namespace: a.GetNamespace(), Verb: a.GetVerb(), Group: a.GetAPIGroup(), Version: a.GetAPIVersion(),
		Resource: a.GetResource(), Subresource: a.GetSubresource(), Name: a.GetName(),
	}
	// A selector narrows the request: what could not be read of it is left out, and
	// the question is then the wider one.
	if list, _ := a.GetFieldSelector(); len(list) > 0 {
		if reqs := fieldRequirements(list); len(reqs) > 0 {
			res.FieldSelector = &authorizationv1.FieldSelectorAttributes{Requirements: reqs}
		}
	}
	if list, _ := a.GetLabelSelector(); len(list) > 0 {
		if reqs := labelRequirements(list); len(reqs) > 0 {
			res.LabelSelector = &authorizationv1.LabelSelectorAttributes{Requirements: reqs}
		}
	}
	out.ResourceAttributes = res
	return out
}

func fieldRequirements(list fields.Requirements) []metav1.FieldSelectorRequirement {
	var out []metav1.FieldSelectorRequirement
	for _, r := range list {
		var op metav1.FieldSelectorOperator
		switch r.Operator {
		case selection.Equals, selection.DoubleEquals, selection.In:
			op = metav1.FieldSelectorOpIn
		case selection.NotEquals, selection.NotIn:
			op = metav1.FieldSelectorOpNotIn
		default:
			continue
		}
		out = append(out, metav1.FieldSelectorRequirement{Key: r.Field, Operator: op, Values: []string{r.Value}})
	}
	return out
}

func labelRequirements(list labels.Requirements) []metav1.LabelSelectorRequirement {
	var out []metav1.LabelSelectorRequirement
	for _, r := range list {
		var op metav1.LabelSelectorOperator
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			op = metav1.LabelSelectorOpIn
		case selection.NotEquals, selection.NotIn:
			op = metav1.LabelSelectorOpNotIn
		case selection.Exists:
			op = metav1.LabelSelectorOpExists
		case selection.DoesNotExist:
			op = metav1.LabelSelectorOpDoesNotExist
		default:
			continue
		}
		out = append(out, metav1.LabelSelectorRequirement{Key: r.Key(), Operator: op, Values: r.ValuesUnsorted()})
	}
	return out
}

// posted is a review as a version has it: v1beta1 calls the groups "group".
type posted struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              postedSpec `json:"spec"`
}

type postedSpec struct {
	authorizationv1.SubjectAccessReviewSpec `json:",inline"`

	Group []string `json:"group,omitempty"`
}

func review(version string, s authorizationv1.SubjectAccessReviewSpec) posted {
	out := posted{TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/" + version, Kind: "SubjectAccessReview"}}
	out.Spec.SubjectAccessReviewSpec = s
	if version == "v1beta1" {
		out.Spec.Group, out.Spec.Groups = s.Groups, nil
	}
	return out
}
