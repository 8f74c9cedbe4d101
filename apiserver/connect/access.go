package connect

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/handlers"
	"skiff/apiserver/request"
)

func (c *connectors) decide(ctx context.Context, u user.Info, res *authorizationv1.ResourceAttributes, other *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := authorizer.AttributesRecord{User: u}
	if res != nil {
		a.ResourceRequest = true
		a.Verb, a.Namespace, a.APIGroup, a.APIVersion = res.Verb, res.Namespace, res.Group, res.Version
		a.Resource, a.Subresource, a.Name = res.Resource, res.Subresource, res.Name
		if a.APIVersion == "" {
			a.APIVersion = "*"
		}
		setSelectors(&a, res)
	} else if other != nil {
		a.Verb, a.Path = other.Verb, other.Path
	}
	decision, reason, err := c.Authorizer.Authorize(ctx, a)
	st := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow, Denied: decision == authorizer.DecisionDeny, Reason: reason,
	}
	st.EvaluationError = evaluationError(&a, err)
	return st
}

// evaluationError tells what could not be evaluated: the error of the authorizers,
// then the selectors that could not be read.
func evaluationError(a *authorizer.AttributesRecord, err error) string {
	var texts []string
	if err != nil {
		texts = append(texts, err.Error())
	}
	unread := func(name string, read int, err error) {
		switch {
		case err == nil:
		case read > 0:
			texts = append(texts, "spec.resourceAttributes."+name+" partially ignored due to parse error")
		default:
			texts = append(texts, "spec.resourceAttributes."+name+" ignored due to parse error")
		}
	}
	unread("fieldSelector", len(a.FieldSelectorRequirements), a.FieldSelectorParsingErr)
	unread("labelSelector", len(a.LabelSelectorRequirements), a.LabelSelectorParsingErr)
	return strings.Join(texts, "; ")
}

func checkSpec(u string, groups []string, self bool, res *authorizationv1.ResourceAttributes, other *authorizationv1.NonResourceAttributes) field.ErrorList {
	var errs field.ErrorList
	p := field.NewPath("spec")
	if (res == nil) == (other == nil) {
		errs = append(errs, field.Invalid(p, shownPath(other), "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if res != nil {
		errs = append(errs, checkSelectors(res, p.Child("resourceAttributes"))...)
	}
	if !self && u == "" && len(groups) == 0 {
		errs = append(errs, field.Invalid(p.Child("user"), u, "at least one of user or group must be specified"))
	}
	return errs
}

// shownPath has the names that upstream's text has.
func shownPath(a *authorizationv1.NonResourceAttributes) any {
	if a == nil {
		return nil
	}
	return struct{ Path, Verb string }{a.Path, a.Verb}
}

// checkMeta: a review has no name, nor anything else that an object is kept by.
func checkMeta(m metav1.ObjectMeta, but string) field.ErrorList {
	m.ManagedFields, m.CreationTimestamp = nil, metav1.Time{}
	left := m
	left.Namespace = ""
	if equality.Semantic.DeepEqual(left, metav1.ObjectMeta{}) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), m, "must be empty"+but)}
}

// invalidReview names no kind, as upstream's does.
func invalidReview(errs field.ErrorList) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", errs)
}

func specUser(s *authorizationv1.SubjectAccessReviewSpec) user.Info {
	extra := map[string][]string{}
	for k, v := range s.Extra {
		extra[k] = v
	}
	return &user.DefaultInfo{Name: s.User, UID: s.UID, Groups: s.Groups, Extra: extra}
}

// readReview reads a review that is answered with what was sent.
func (c *connectors) readReview(r *http.Request, t *handlers.Target, in interface {
	runtime.Object
	metav1.Object
}) error {
	if err := c.API.ReadInto(r, t.GVK(), in); err != nil {
		return err
	}
	return c.API.Made(r, t, t.GVK(), in)
}

// subjectAccessReview tells whether a user may do something.
func (c *connectors) subjectAccessReview(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	in := &authorizationv1.SubjectAccessReview{}
	if err := c.readReview(r, t, in); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	errs := append(checkSpec(in.Spec.User, in.Spec.Groups, false, in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes), checkMeta(in.ObjectMeta, "")...)
	if len(errs) > 0 {
		handlers.WriteError(w, r, invalidReview(errs))
		return
	}
	in.Status = c.decide(r.Context(), specUser(&in.Spec), in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
	c.API.WriteKind(w, r, http.StatusCreated, t.GVK(), in)
}

// localSubjectAccessReview is the same within one namespace.
func (c *connectors) localSubjectAccessReview(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	in := &authorizationv1.LocalSubjectAccessReview{}
	if err := c.readReview(r, t, in); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if in.Namespace == "" {
		in.Namespace = t.Namespace
	}
	errs := checkSpec(in.Spec.User, in.Spec.Groups, false, in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
	p := field.NewPath("spec")
	if in.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(p.Child("nonResourceAttributes"), shownPath(in.Spec.NonResourceAttributes), "disallowed on this kind of request"))
	}
	if a := in.Spec.ResourceAttributes; a != nil && a.Namespace != in.Namespace {
		errs = append(errs, field.Invalid(p.Child("resourceAttributes", "namespace"), a.Namespace, "must match metadata.namespace"))
	}
	errs = append(errs, checkMeta(in.ObjectMeta, " except for namespace")...)
	if len(errs) > 0 {
		handlers.WriteError(w, r, invalidReview(errs))
		return
	}
	if t.Namespace != in.Namespace {
		handlers.WriteError(w, r, apierrors.NewBadRequest(fmt.Sprintf("spec.resourceAttributes.namespace must match namespace: %q", t.Namespace)))
		return
	}
	in.Status = c.decide(r.Context(), specUser(&in.Spec), in.Spec.ResourceAttributes, nil)
	c.API.WriteKind(w, r, http.StatusCreated, t.GVK(), in)
}

// selfSubjectAccessReview tells users what they may do themselves.
func (c *connectors) selfSubjectAccessReview(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	in := &authorizationv1.SelfSubjectAccessReview{}
	if err := c.readReview(r, t, in); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	errs := append(checkSpec("", nil, true, in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes), checkMeta(in.ObjectMeta, "")...)
	if len(errs) > 0 {
		handlers.WriteError(w, r, invalidReview(errs))
		return
	}
	u := request.UserFrom(r.Context())
	if u == nil {
		handlers.WriteError(w, r, apierrors.NewBadRequest("no user present on request"))
		return
	}
	in.Status = c.decide(r.Context(), u, in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
	c.API.WriteKind(w, r, http.StatusCreated, t.GVK(), in)
}

// selfSubjectRulesReview lists what users may do in a namespace.
func (c *connectors) selfSubjectRulesReview(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	in := &authorizationv1.SelfSubjectRulesReview{}
	if err := c.API.ReadInto(r, t.GVK(), in); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	u := request.UserFrom(r.Context())
	if u == nil {
		handlers.WriteError(w, r, apierrors.NewBadRequest("no user present on request"))
		return
	}
	if in.Spec.Namespace == "" {
		handlers.WriteError(w, r, apierrors.NewBadRequest("no namespace on request"))
		return
	}
	st := &in.Status
	st.ResourceRules, st.NonResourceRules = []authorizationv1.ResourceRule{}, []authorizationv1.NonResourceRule{}
	if c.Rules == nil {
		st.Incomplete, st.EvaluationError = true, "no authorizer of this server lists rules"
	} else {
		res, other, incomplete, err := c.Rules.RulesFor(r.Context(), u, in.Spec.Namespace)
		for _, rule := range res {
			st.ResourceRules = append(st.ResourceRules, authorizationv1.ResourceRule{
				Verbs: rule.GetVerbs(), APIGroups: rule.GetAPIGroups(), Resources: rule.GetResources(), ResourceNames: rule.GetResourceNames(),
			})
		}
		for _, rule := range other {
			st.NonResourceRules = append(st.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.GetVerbs(), NonResourceURLs: rule.GetNonResourceURLs()})
		}
		st.Incomplete = incomplete || err != nil
		if err != nil {
			st.EvaluationError = err.Error()
		}
		if why := c.RulesIncomplete(u); why != "" {
			st.Incomplete, st.EvaluationError = true, why
		}
	}
	in.Spec = authorizationv1.SelfSubjectRulesReviewSpec{}
	c.API.WriteKind(w, r, http.StatusCreated, t.GVK(), in)
}
