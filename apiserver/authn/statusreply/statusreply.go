// Package statusreply answers a request with a Status before it reaches the
// handlers: refusals of impersonation, flow control and the like.
package statusreply

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Error writes err as a JSON Status, which every client reads.
func Error(w http.ResponseWriter, _ *http.Request, err error) {
	var api apierrors.APIStatus
	if !errors.As(err, &api) {
		api = apierrors.NewInternalError(err)
	}
	st := api.Status()
	st.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	if st.Details != nil && st.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(st.Details.RetryAfterSeconds)))
	}
	body, merr := json.Marshal(&st)
	if merr != nil {
		http.Error(w, merr.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(int(st.Code))
	_, _ = w.Write(body)
}

// Forbidden is the 403 of an authorisation decision, in upstream's words.
func Forbidden(a authorizer.Attributes, reason string) *apierrors.StatusError {
	gr := schema.GroupResource{Group: a.GetAPIGroup(), Resource: a.GetResource()}
	msg := Message(a)
	if reason != "" {
		msg += ": " + reason
	}
	return apierrors.NewForbidden(gr, a.GetName(), errors.New(msg))
}

// Message says who may not do what.
func Message(a authorizer.Attributes) string {
	username := ""
	if u := a.GetUser(); u != nil {
		username = u.GetName()
	}
	if !a.IsResourceRequest() {
		return fmt.Sprintf("User %q cannot %s path %q", username, a.GetVerb(), a.GetPath())
	}
	resource := a.GetResource()
	if sub := a.GetSubresource(); sub != "" {
		resource = strings.Join([]string{resource, sub}, "/")
	}
	if ns := a.GetNamespace(); ns != "" {
		return fmt.Sprintf("User %q cannot %s resource %q in API group %q in the namespace %q", username, a.GetVerb(), resource, a.GetAPIGroup(), ns)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q at the cluster scope", username, a.GetVerb(), resource, a.GetAPIGroup())
}
