package connect

import (
	"net/http"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/handlers"
	"skiff/apiserver/request"
)

// tokenReview tells whose a token is.
func (c *connectors) tokenReview(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	in := &authenticationv1.TokenReview{}
	if err := c.readReview(r, t, in); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if in.Spec.Token == "" {
		handlers.WriteError(w, r, apierrors.NewBadRequest("token is required for TokenReview in authentication"))
		return
	}
	if _, err := c.API.AdmitCreate(r.Context(), t, in, &metav1.CreateOptions{}, len(dryRunOf(r)) > 0); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	wanted := in.Spec.Audiences
	if len(wanted) == 0 {
		wanted = c.Authenticator.Audiences()
	}
	ctx := r.Context()
	if len(wanted) > 0 {
		ctx = authenticator.WithAudiences(ctx, wanted)
	}
	resp, ok, err := c.Authenticator.AuthenticateToken(ctx, in.Spec.Token)
	in.Status = authenticationv1.TokenReviewStatus{Authenticated: ok && err == nil}
	switch {
	case err != nil:
		in.Status.Error = "[invalid bearer token, " + err.Error() + "]"
	case !ok:
		in.Status.Error = "invalid bearer token"
	}
	if in.Status.Authenticated {
		if len(wanted) > 0 {
			in.Status.Audiences = shared(wanted, resp.Audiences)
			if len(resp.Audiences) > 0 && len(in.Status.Audiences) == 0 {
				in.Status.Authenticated = false
				in.Status.Error = "token audiences do not match the requested ones"
			}
		}
		if in.Status.Authenticated && resp.User != nil {
			in.Status.User = userInfo(resp.User)
		}
	}
	c.API.WriteKind(w, r, http.StatusCreated, t.GVK(), in)
}

func shared(a, b []string) []string {
	var out []string
	for _, s := range a {
		if slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

func userInfo(u user.Info) authenticationv1.UserInfo {
	out := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for k, v := range u.GetExtra() {
		if out.Extra == nil {
			out.Extra = map[string]authenticationv1.ExtraValue{}
		}
		out.Extra[k] = v
	}
	return out
}

// selfSubjectReview tells the user who they are.
func (c *connectors) selfSubjectReview(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	in := &authenticationv1.SelfSubjectReview{}
	if err := c.API.ReadInto(r, t.GVK(), in); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	u := request.UserFrom(r.Context())
	if u == nil {
		handlers.WriteError(w, r, apierrors.NewBadRequest("no user present on request"))
		return
	}
	out := &authenticationv1.SelfSubjectReview{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Now()},
		Status:     authenticationv1.SelfSubjectReviewStatus{UserInfo: userInfo(u)},
	}
	c.API.WriteKind(w, r, http.StatusCreated, t.GVK(), out)
}
