package authn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
			statusreply.Error(w, req, err)
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
	return n, ok && len(validation.NameIsDNSSubdomain(n, false)) == 0
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

// impersonate tries the constrained modes, then the plain verb. The first refusal is
// the answer.
func impersonate(ctx context.Context, a authorizer.UnconditionalAuthorizer, requestor user.Info, wanted *user.DefaultInfo, attrs authorizer.Attributes) (user.Info, string, error) {
	var refusal error
	if attrs != nil {
		for _, m := range modes() {
			if !m.applies(wanted, requestor) {
				continue
			}
			as, err := m.impersonate(ctx, a, requestor, wanted, attrs)
			if err == nil {
				return as, "impersonate:" + m.name, nil
			}
			if refusal == nil {
				refusal = err
			}
		}
	}
	as, err := asUser(ctx, a, requestor, wanted, "impersonate", false)
	if err != nil && refusal != nil {
		err = refusal
	}
	return as, "", err
}

// impersonate asks for the request first, then for the identity.
func (m mode) impersonate(ctx context.Context, a authorizer.UnconditionalAuthorizer, requestor user.Info, wanted *user.DefaultInfo, attrs authorizer.Attributes) (user.Info, error) {
	if m.name == "associated-node" {
		requestor = onItsNode{requestor}
	}
	if err := check(ctx, a, constrained{attrs, requestor, "impersonate-on:" + m.name + ":" + attrs.GetVerb()}); err != nil {
		return nil, err
	}
	return asUser(ctx, a, requestor, wanted, "impersonate:"+m.name, true)
}

// onItsNode is a service account of which it is known that it runs on the node it
// wants to be. Authorizers see that this was checked, not on which node it is.
type onItsNode struct{ user.Info }

// GetExtra implements user.Info.
func (u onItsNode) GetExtra() map[string][]string {
	return map[string][]string{"authentication.kubernetes.io/associated-node-keys": slices.Sorted(maps.Keys(u.Info.GetExtra()))}
}

// constrained is the request under another verb.
type constrained struct {
	authorizer.Attributes
	user user.Info
	verb string
}

func (c constrained) GetVerb() string { return c.verb }

func (c constrained) GetUser() user.Info { return c.user }

// check is nil where the authorizer allows.
func check(ctx context.Context, a authorizer.UnconditionalAuthorizer, attrs authorizer.Attributes) error {
	d, reason, err := a.Authorize(ctx, attrs)
	switch {
	case d == authorizer.DecisionAllow:
		return nil
	case apierrors.IsForbidden(err):
		return err
	case err != nil && reason != "":
		reason = err.Error() + ": " + reason
	case err != nil:
		reason = err.Error()
	}
	return statusreply.Forbidden(attrs, reason)
}

// asUser checks each wanted property and completes the identity.
func asUser(ctx context.Context, a authorizer.UnconditionalAuthorizer, requestor user.Info, wanted *user.DefaultInfo, verb string, constrainedMode bool) (user.Info, error) {
	group := corev1.GroupName
	if constrainedMode {
		group = authenticationv1.GroupName
	}
	attributes := func(r authorizer.AttributesRecord) authorizer.AttributesRecord {
		r.User, r.Verb, r.APIVersion, r.ResourceRequest = requestor, verb, "v1", true
		return r
	}
	check := func(r authorizer.AttributesRecord) error { return check(ctx, a, attributes(r)) }
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
	groups := authorizer.AttributesRecord{APIGroup: group, Resource: "groups"}
	extras := authorizer.AttributesRecord{APIGroup: authenticationv1.GroupName, Resource: "userextras"}
	if constrainedMode {
		for _, g := range []string{"", user.SystemPrivilegedGroup} {
			if slices.Contains(wanted.Groups, g) {
				groups.Name = g
				return nil, statusreply.Forbidden(attributes(groups), "impersonating the "+cmp.Or(g, "empty string")+" group is not allowed")
			}
		}
		if err := validExtra(wanted.Extra); err != nil {
			return nil, statusreply.Forbidden(attributes(extras), err.Error())
		}
	}
	if groups.Name = "*"; !constrainedMode || len(wanted.Groups) < many || check(groups) != nil {
		for _, g := range wanted.Groups {
			groups.Name = g
			if err := check(groups); err != nil {
				return nil, err
			}
		}
	}
	if extras.Subresource, extras.Name = "*", "*"; !constrainedMode || countExtra(wanted.Extra) < many || check(extras) != nil {
		for key, values := range wanted.Extra {
			for _, v := range values {
				extras.Subresource, extras.Name = key, v
				if err := check(extras); err != nil {
					return nil, err
				}
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

// many is how many groups or extras may be asked for at once, as "*", in a
// constrained mode.
const many = 4

func countExtra(extra map[string][]string) int {
	n := 0
	for _, values := range extra {
		n += len(values)
	}
	return max(n, len(extra))
}

func validExtra(extra map[string][]string) error {
	for key, values := range extra {
		if key == "" {
			return errors.New("impersonating the empty string key in extra is not allowed")
		}
		if err := utilvalidation.IsDomainPrefixedPath(field.NewPath("extra", "key"), key).ToAggregate(); err != nil {
			return fmt.Errorf("impersonating an invalid key in extra is not allowed: %w", err)
		}
		if key != strings.ToLower(key) {
			return fmt.Errorf("impersonating a non-lowercase key in extra is not allowed: %q", key)
		}
		if len(values) == 0 {
			return errors.New("impersonating empty values in extra is not allowed")
		}
		if slices.Contains(values, "") {
			return errors.New("impersonating the empty string value in extra is not allowed")
		}
	}
	return nil
}
