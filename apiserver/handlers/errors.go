package handlers

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/store"
)

// StatusOf is the Status that tells a client of an error: the one place where
// errors become answers.
func StatusOf(err error) *metav1.Status {
	var api apierrors.APIStatus
	if errors.As(err, &api) {
		status := api.Status()
		if status.Status == "" {
			status.Status = metav1.StatusFailure
		}
		return &status
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &metav1.Status{Status: metav1.StatusFailure, Code: 499, Reason: metav1.StatusReasonTimeout, Message: "the client closed the request"}
	case errors.Is(err, context.DeadlineExceeded):
		s := apierrors.NewTimeoutError("request did not complete within requested timeout - context deadline exceeded", 0).Status()
		return &s
	}
	s := metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonUnknown,
		Message: err.Error(),
	}
	return &s
}

// WriteError answers with the Status of an error.
func (a *API) WriteError(w http.ResponseWriter, r *http.Request, err error) { WriteError(w, r, err) }

// WriteError answers with the Status of an error, in the client's format.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	status := StatusOf(err)
	status.Kind, status.APIVersion = "Status", "v1"
	code := int(status.Code)
	if code == 0 {
		code = http.StatusInternalServerError
	}
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	WriteStatus(w, r, code, status)
}

// WriteStatus answers with a Status.
func WriteStatus(w http.ResponseWriter, r *http.Request, code int, status *metav1.Status) {
	wi, err := negotiate(r, true)
	if err != nil {
		wi = wire{format: formatJSON}
	}
	wi.as = ""
	status.Kind, status.APIVersion = "", ""
	body, err := encodeObject(&wi, statusKind, status)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeBody(w, r, &wi, code, body)
}

// modified is the conflict of a lost optimistic update.
func modified(t *Target) error { return store.Modified(t.GR(), t.Name) }

// WriteMethodNotAllowed answers a method that a path outside of resources has not.
func WriteMethodNotAllowed(w http.ResponseWriter, r *http.Request) { WriteError(w, r, errMethod()) }

func errMethod() error {
	return apierrors.NewGenericServerResponse(http.StatusMethodNotAllowed, "", schema.GroupResource{}, "", "405: Method Not Allowed", 0, false)
}

// WriteNotFound answers a path that nothing serves.
func WriteNotFound(w http.ResponseWriter, r *http.Request) { WriteError(w, r, notFoundPath()) }
