package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiserversa "k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/authn/statusreply"
	"skiff/apiserver/request"
)

// ImpersonationConfig of the middleware.
type ImpersonationConfig struct {
	// Authorizer decides on the impersonate verbs.
	Authorizer authorizer.UnconditionalAuthorizer
	// Attributes gives the request's attributes for its authenticated user, for
	// the constrained verbs (impersonate-on:<mode>:<verb>). Nil leaves only the
	// plain impersonate verb.
	Attributes func(*http.Request) authorizer.Attributes
	// Impersonated, when set, is told of the new identity (audit).
	Impersonated func(ctx context.Context, as user.Info, constraint string)
}

// WithImpersonation lets a user who may act as another do so, by the
// Impersonate-* headers.
func WithImpersonation(next http.Handler, c ImpersonationConfig) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		wanted, err := wantedUser(req.Header)
		if err != nil {
			statusreply.Error(w, req, apierrors.NewInternalError(err))
			return
		}
		if wanted == nil {
			next.ServeHTTP(w, req)
			return
		}
		ctx := req.Context()
		requestor := request.UserFrom(ctx)
		if requestor == nil {
			statusreply.Error(w, req, apierrors.NewInternalError(errors.New("no User found in the context")))
			return
		}
		var attrs authorizer.Attributes
		if c.Attributes != nil {
			attrs = c.Attributes(req)
		}
		as, constraint, err := impersonate(ctx, c.Authorizer, requestor, wanted, attrs)
		if err != nil {
			statusreply.Error(w, req, err)
			return
		}
		if c.Impersonated != nil {
			c.Impersonated(ctx, as, constraint)
		}
		req = req.WithContext(request.WithUser(ctx, as))
		// The headers have done their work; a backend must not act on them again.
		req.Header = req.Header.Clone()
		for h := range req.Header {
			if strings.HasPrefix(h, "Impersonate-") {
				delete(req.Header, h)
			}
		}
		next.ServeHTTP(w, req)
	})
}

// wantedUser reads the headers; nil when there are none.
func wantedUser(h http.Header) (*user.DefaultInfo, error) {
	u := &user.DefaultInfo{
		Name: h.Get(authenticationv1.ImpersonateUserHeader), UID: h.Get(authenticationv1.ImpersonateUIDHeader),
		Groups: h[http.CanonicalHeaderKey(authenticationv1.ImpersonateGroupHeader)],
	}
	for key, values := range h {
		rest, ok := strings.CutPrefix(key, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		if !ok {
			continue
		}
		name := strings.ToLower(rest)
		if decoded, err := url.PathUnescape(name); err == nil {
			name = decoded
		}
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[name] = append(u.Extra[name], values...)
	}
	if u.Name == "" {
		if u.UID != "" || len(u.Groups) > 0 || len(u.Extra) > 0 {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("requested %#v without impersonating a user name", u))
		}
		return nil, nil
	}
	return u, nil
}

const nodeUserPrefix = "system:node:"

func nodeOf(name string) (string, bool) {
	n, ok := strings.CutPrefix(name, nodeUserPrefix)
	return n, ok && n != ""
}

// mode is one way to be allowed: the verb "impersonate:<name>" on the wanted
// identity together with "impersonate-on:<name>:<verb>" on the request.
type mode struct {
	name    string
	applies func(wanted *user.DefaultInfo, requestor user.Info) bool
}

func onlyName(u *user.DefaultInfo) bool {
	return u.UID == "" && len(u.Groups) == 0 && len(u.Extra) == 0
}

func isServiceAccount(name string) bool {
	_, _, err := apiserversa.SplitUsername(name)
	return err == nil
}

func modes() []mode {
	return []mode{
		{"associated-node", func(u *user.DefaultInfo, r user.Info) bool {
			node, ok := nodeOf(u.Name)
			own := r.GetExtra()[apiserversa.NodeNameKey]
			return ok && onlyName(u) && isServiceAccount(r.GetName()) && len(own) == 1 && own[0] == node
		}},
		{"arbitrary-node", func(u *user.DefaultInfo, _ user.Info) bool {
			_, ok := nodeOf(u.Name)
			return ok && onlyName(u)
		}},
		{"serviceaccount", func(u *user.DefaultInfo, _ user.Info) bool { return onlyName(u) && isServiceAccount(u.Name) }},
		{"user-info", func(u *user.DefaultInfo, _ user.Info) bool {
			_, node := nodeOf(u.Name)
			return !node && !isServiceAccount(u.Name)
		}},
	}
}

// impersonate tries the constrained modes, then the plain verb, whose refusal is the answer.
func impersonate(ctx context.Context, a authorizer.UnconditionalAuthorizer, requestor user.Info, wanted *user.DefaultInfo, attrs authorizer.Attributes) (user.Info, string, error) {
	if attrs != nil {
		for _, m := range modes() {
			if !m.applies(wanted, requestor) {
				continue
			}
			if !allowed(ctx, a, constrained{attrs, "impersonate-on:" + m.name + ":" + attrs.GetVerb()}) {
				continue
			}
			verb := "impersonate:" + m.name
			if as, err := asUser(ctx, a, requestor, wanted, verb, true); err == nil {
				return as, verb, nil
			}
		}
	}
	as, err := asUser(ctx, a, requestor, wanted, "impersonate", false)
	return as, "", err
}

// constrained is the request under another verb.
type constrained struct {
	authorizer.Attributes
	verb string
}

func (c constrained) GetVerb() string { return c.verb }

func allowed(ctx context.Context, a authorizer.UnconditionalAuthorizer, attrs authorizer.Attributes) bool {
	d, _, err := a.Authorize(ctx, attrs)
	return d == authorizer.DecisionAllow && err == nil
}

// asUser checks each wanted property and completes the identity.
func asUser(ctx context.Context, a authorizer.UnconditionalAuthorizer, requestor user.Info, wanted *user.DefaultInfo, verb string, constrainedMode bool) (user.Info, error) {
	group := corev1.GroupName
	if constrainedMode {
		group = authenticationv1.GroupName
	}
	check := func(r authorizer.AttributesRecord) error {
		r.User, r.Verb, r.APIVersion, r.ResourceRequest = requestor, verb, "v1", true
		d, reason, err := a.Authorize(ctx, r)
		if d == authorizer.DecisionAllow {
			return nil
		}
		if err != nil {
			reason = strings.TrimPrefix(reason+", "+err.Error(), ", ")
		}
		return statusreply.Forbidden(r, reason)
	}
	as := *wanted
	name := authorizer.AttributesRecord{APIGroup: group, Resource: "users", Name: wanted.Name}
	if node, ok := nodeOf(wanted.Name); ok && constrainedMode {
		name.Resource, name.Name = "nodes", node
		if verb == "impersonate:associated-node" {
			name.Name = "*"
		}
		as.Groups = []string{user.NodesGroup}
	}
	if ns, n, err := apiserversa.SplitUsername(wanted.Name); err == nil {
		name.Resource, name.Namespace, name.Name = "serviceaccounts", ns, n
		if len(wanted.Groups) == 0 {
			as.Groups = apiserversa.MakeGroupNames(ns)
		}
	}
	if err := check(name); err != nil {
		return nil, err
	}
	if wanted.UID != "" {
		if err := check(authorizer.AttributesRecord{APIGroup: authenticationv1.GroupName, Resource: "uids", Name: wanted.UID}); err != nil {
			return nil, err
		}
	}
	for _, g := range wanted.Groups {
		r := authorizer.AttributesRecord{APIGroup: group, Resource: "groups", Name: g}
		if constrainedMode && (g == "" || g == user.SystemPrivilegedGroup) {
			return nil, statusreply.Forbidden(r, "impersonating the "+g+" group is not allowed")
		}
		if err := check(r); err != nil {
			return nil, err
		}
	}
	for key, values := range wanted.Extra {
		for _, v := range values {
			if err := check(authorizer.AttributesRecord{APIGroup: authenticationv1.GroupName, Resource: "userextras", Subresource: key, Name: v}); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case as.Name == user.Anonymous:
		as.Groups = withGroup(as.Groups, user.AllUnauthenticated)
	case !slices.Contains(as.Groups, user.AllUnauthenticated):
		as.Groups = withGroup(as.Groups, user.AllAuthenticated)
	}
	return &as, nil
}

func withGroup(groups []string, g string) []string {
	if slices.Contains(groups, g) {
		return groups
	}
	return append(slices.Clip(groups), g)
}
