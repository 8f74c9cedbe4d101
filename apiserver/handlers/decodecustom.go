package handlers

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ownType reads kind and apiVersion of a custom resource, which says both itself.
func ownType(doc []byte, want schema.GroupVersionKind) (schema.GroupVersionKind, error) {
	var tm struct {
		APIVersion string `json:"apiVersion,omitempty"`
		Kind       string `json:"kind,omitempty"`
	}
	if err := json.Unmarshal(doc, &tm); err != nil {
		return want, fmt.Errorf("couldn't get version/kind; json parse error: %w", err)
	}
	gv, err := schema.ParseGroupVersion(tm.APIVersion)
	if err != nil {
		return want, err
	}
	if tm.Kind == "" {
		return want, runtime.NewMissingKindErr(string(doc))
	}
	return gv.WithKind(tm.Kind), nil
}

// badCustom is the answer to a body that is no object of a custom resource's kind.
func badCustom(kind string, body []byte, wrong wrongType, cause error) error {
	var known apierrors.APIStatus
	switch {
	case errors.As(cause, &known):
		return cause
	case wrong == (wrongType{}):
		return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", kind, cause, excerpt(body)))
	case wrong.got.GroupVersion() != wrong.want.GroupVersion():
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", wrong.got.GroupVersion(), wrong.want.GroupVersion()))
	}
	var named struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	_ = json.Unmarshal(body, &named) // a name is told where there is one
	return apierrors.NewInvalid(wrong.got.GroupKind(), named.Metadata.Name, field.ErrorList{
		field.Invalid(field.NewPath("kind"), wrong.got.Kind, "must be "+wrong.want.Kind)})
}

// excerpt is the beginning of a body, in figures where it is no JSON object.
func excerpt(body []byte) string {
	const most = 30
	if len(body) == 0 {
		return "<empty>"
	}
	show := func(b []byte) string { return hex.EncodeToString(b) }
	if body[0] == '{' {
		show = func(b []byte) string { return string(b) }
	}
	if len(body) > most {
		return show(body[:most]) + " ..."
	}
	return show(body)
}
