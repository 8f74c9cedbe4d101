package connect

import (
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver/handlers"
	"skiff/apiserver/serviceaccount"
)

// token makes a token for a service account.
func (c *connectors) token(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	if c.Issuer == nil {
		handlers.WriteError(w, r, apierrors.NewMethodNotSupported(t.GR(), "create"))
		return
	}
	gvk := authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
	in := &authenticationv1.TokenRequest{}
	if err := c.API.ReadInto(r, gvk, in); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	serviceaccount.Default(in)
	if in.Namespace != "" && in.Namespace != t.Namespace {
		handlers.WriteError(w, r, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request"))
		return
	}
	in.Namespace = t.Namespace
	if err := c.API.Made(r, t, gvk, in); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	admitted, err := c.API.AdmitCreate(r.Context(), t, in, &metav1.CreateOptions{DryRun: dryRunOf(r)}, len(dryRunOf(r)) > 0)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if tr, ok := admitted.(*authenticationv1.TokenRequest); ok {
		in = tr
	}
	out, err := c.Issuer.TokenRequest(r.Context(), t.Namespace, t.Name, in)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	c.API.WriteKind(w, r, http.StatusCreated, gvk, out)
}
