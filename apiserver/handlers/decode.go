package handlers

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/request"
	"skiff/apiserver/store"
)

// unmarshalPreserving decodes JSON with integers kept as integers.
func unmarshalPreserving(b []byte, into any) error {
	return kjson.UnmarshalCaseSensitivePreserveInts(b, into)
}

// readBody reads the request's body, bounded.
func (a *API) readBody(r *http.Request) ([]byte, error) {
	limit := a.cfg.MaxBody
	b, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, apierrors.NewTimeoutError("the request's body did not arrive within the allotted timeout", 0)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest("reading the request's body: " + err.Error())
	}
	if int64(len(b)) > limit {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", limit))
	}
	return b, nil
}

// fieldValidation is how unknown and duplicate fields are treated.
type fieldValidation string

const (
	validateStrict fieldValidation = "Strict"
	validateWarn   fieldValidation = "Warn"
	validateIgnore fieldValidation = "Ignore"
)

func fieldValidationOf(text string) (fieldValidation, error) {
	switch fieldValidation(text) {
	case "":
		return validateWarn, nil
	case validateStrict, validateWarn, validateIgnore:
		return fieldValidation(text), nil
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("Invalid value: %q: fieldValidation must be one of Ignore, Warn or Strict", text))
}

// bodyJSON turns a body of any format but protobuf into JSON. Duplicate keys of
// YAML are told as strict errors.
func bodyJSON(format string, b []byte) (out []byte, strict []error, err error) {
	switch format {
	case formatYAML:
		out, err = yaml.YAMLToJSONStrict(b)
		if err == nil {
			return out, nil, nil
		}
		lenient, lenientErr := yaml.YAMLToJSON(b)
		if lenientErr != nil {
			return nil, nil, lenientErr
		}
		return lenient, []error{err}, nil
	case formatCBOR:
		var v any
		if err := cbordirect.Unmarshal(b, &v); err != nil {
			return nil, nil, err
		}
		out, err = json.Marshal(v)
		return out, nil, err
	}
	return b, nil, nil
}

// typeOf reads kind and apiVersion. What is missing is taken from want, as
// upstream does.
func typeOf(doc []byte, want schema.GroupVersionKind) (schema.GroupVersionKind, error) {
	// The type is in the text that clients see of what cannot be read.
	var tm struct {
		APIVersion string `json:"apiVersion,omitempty"`
		Kind       string `json:"kind,omitempty"`
	}
	if err := json.Unmarshal(doc, &tm); err != nil {
		return want, unreadable{fmt.Errorf("couldn't get version/kind; json parse error: %w", err)}
	}
	got := want
	if tm.APIVersion != "" {
		gv, err := schema.ParseGroupVersion(tm.APIVersion)
		if err != nil {
			return want, err
		}
		got.Group, got.Version = gv.Group, gv.Version
	}
	if tm.Kind != "" {
		got.Kind = tm.Kind
	}
	return got, nil
}

// decodeInto decodes a body into an object of the version want. Unknown and
// duplicate fields are returned as strict errors.
func decodeInto(format string, b []byte, want schema.GroupVersionKind, obj runtime.Object, check bool) (strict []error, err error) {
	if format == formatProto {
		return nil, decodeProto(b, want, obj)
	}
	doc, strict, err := bodyJSON(format, b)
	if err != nil {
		return nil, unreadable{err}
	}
	u, untyped := obj.(*unstructured.Unstructured)
	typeIn := typeOf
	if untyped {
		typeIn = ownType
	}
	got, err := typeIn(doc, want)
	if err != nil {
		return nil, err
	}
	if got != want {
		return nil, wrongType{got, want}
	}
	if untyped {
		more, err := kjson.UnmarshalStrict(doc, &u.Object)
		if err != nil {
			return nil, err
		}
		u.SetGroupVersionKind(want)
		return append(strict, more...), nil
	}
	if !check {
		err = unmarshalPreserving(doc, obj)
	} else {
		var more []error
		more, err = kjson.UnmarshalStrict(doc, obj)
		strict = append(strict, more...)
	}
	obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return strict, err
}

var errNoProto = errors.New("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")

// unreadable: the body is not even of the format that it claims.
type unreadable struct{ error }

func (e unreadable) Unwrap() error { return e.error }

// told shows the beginning of a body that could not be read.
func told(b []byte) string {
	const most = 30
	cut := b[:min(len(b), most)]
	shown, more := hex.EncodeToString(cut), ""
	if len(b) == 0 {
		return "<empty>"
	}
	if b[0] == '{' {
		shown = string(cut)
	}
	if len(b) > most {
		more = " ..."
	}
	return shown + more
}

// wrongType: the body is of another kind than the request's path.
type wrongType struct{ got, want schema.GroupVersionKind }

// schemeName is what upstream calls its table of kinds in front of clients.
const schemeName = "pkg/runtime/scheme.go:111"

func (e wrongType) Error() string {
	if !scheme.Scheme.Recognizes(e.got) {
		return fmt.Sprintf("no kind %q is registered for version %q in scheme %q", e.got.Kind, e.got.GroupVersion(), schemeName)
	}
	if e.got.Kind != e.want.Kind && e.got.GroupVersion() == e.want.GroupVersion() {
		group := "core"
		if e.want.Group != "" {
			group, _, _ = strings.Cut(e.want.Group, ".")
		}
		return fmt.Sprintf("converting (%s.%s) to (%s.%s): unknown conversion", e.got.Version, e.got.Kind, group, e.want.Kind)
	}
	return fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", e.got.GroupVersion(), e.want.GroupVersion())
}

func decodeProto(b []byte, want schema.GroupVersionKind, obj runtime.Object) error {
	pm, ok := obj.(store.ProtoMessage)
	if !ok {
		return unsupportedMedia([]string{formatJSON, formatYAML, formatCBOR})
	}
	const magic = "k8s\x00"
	if len(b) == 0 {
		return nil
	}
	if !strings.HasPrefix(string(b[:min(len(b), 4)]), magic) {
		return unreadable{errNoProto}
	}
	var unk runtime.Unknown
	if err := unk.Unmarshal(b[len(magic):]); err != nil {
		return err
	}
	got := want
	if unk.APIVersion != "" {
		gv, err := schema.ParseGroupVersion(unk.APIVersion)
		if err != nil {
			return err
		}
		got.Group, got.Version = gv.Group, gv.Version
	}
	if unk.Kind != "" {
		got.Kind = unk.Kind
	}
	if got != want {
		return wrongType{got, want}
	}
	return pm.Unmarshal(unk.Raw)
}

// strictError is the answer to unknown and duplicate fields under Strict.
func strictError(errs []error) error {
	texts := make([]string, len(errs))
	for i, e := range errs {
		texts[i] = e.Error()
	}
	return fmt.Errorf("strict decoding error: %s", strings.Join(texts, ", "))
}

// applyStrict warns of strict errors, or refuses them.
func applyStrict(ctx context.Context, mode fieldValidation, errs []error) error {
	if len(errs) == 0 || mode == validateIgnore {
		return nil
	}
	if mode == validateStrict {
		return strictError(errs)
	}
	for _, e := range errs {
		for _, text := range yamlWarnings(e.Error()) {
			request.Warn(ctx, text)
		}
	}
	return nil
}

// yamlWarnings takes the parser's list of errors apart.
func yamlWarnings(text string) []string {
	rest, ok := strings.CutPrefix(text, "error converting YAML to JSON: yaml: unmarshal errors:\n")
	if !ok {
		if rest, ok = strings.CutPrefix(text, "yaml: unmarshal errors:\n"); !ok {
			return []string{text}
		}
	}
	lines := strings.Split(rest, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}

// decodeBody reads an object of the target's version and converts it to the hub.
func (a *API) decodeBody(r *http.Request, t *Target, mode fieldValidation) (runtime.Object, error) {
	format, err := bodyFormat(r)
	if err != nil {
		return nil, err
	}
	b, err := a.readBody(r)
	if err != nil {
		return nil, err
	}
	obj := t.Version.New()
	strict, err := decodeInto(format, b, t.GVK(), obj, mode != validateIgnore)
	if _, custom := obj.(*unstructured.Unstructured); custom && err != nil {
		var wrong wrongType
		errors.As(err, &wrong)
		return nil, badCustom(t.Resource.Kind, b, wrong, err)
	}
	if err == nil {
		strict, err = t.coerce(obj, mode, strict)
	}
	if err == nil {
		err = applyStrict(r.Context(), mode, strict)
	}
	if err != nil {
		return nil, badBody(t.GVK(), err, b)
	}
	request.About(r.Context(), obj)
	return t.toHub(obj)
}

// badBody is the answer to a body that is none of the kind.
func badBody(gvk schema.GroupVersionKind, err error, b []byte) error {
	var api apierrors.APIStatus
	if errors.As(err, &api) {
		return err
	}
	wanted := gvk.Kind
	var wrong wrongType
	if errors.As(err, &wrong) {
		gvk = wrong.got
		if wrong.got.GroupVersion() != wrong.want.GroupVersion() && scheme.Scheme.Recognizes(wrong.got) {
			return apierrors.NewBadRequest(err.Error())
		}
	}
	if errors.As(err, &unreadable{}) {
		return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", wanted, err, told(b)))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", gvk.Kind, gvk.Version, wanted, err))
}

// coerce brings an untyped object into the shape of its schema. Fields that the
// schema does not know are strict errors.
func (t *Target) coerce(obj runtime.Object, mode fieldValidation, strict []error) ([]error, error) {
	if t.Version.Coerce == nil {
		return strict, nil
	}
	unknown, err := t.Version.Coerce(obj, false, mode != validateIgnore)
	for _, path := range unknown {
		strict = append(strict, fmt.Errorf("unknown field %q", path))
	}
	return strict, err
}

// toHub defaults an object of the target's version and converts it.
func (t *Target) toHub(obj runtime.Object) (runtime.Object, error) {
	if d := t.Version.Default; d != nil {
		d(obj)
	}
	if t.Version.ToHub == nil {
		return obj, nil
	}
	hub, err := t.Version.ToHub(obj)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return untype(hub), nil
}

// untype clears the type of a built-in object.
func untype(obj runtime.Object) runtime.Object {
	if _, ok := obj.(*unstructured.Unstructured); !ok {
		obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	}
	return obj
}

// ReadInto decodes a request's body into an object of another kind than the
// target's (a Scale, an Eviction, a review).
func (a *API) ReadInto(r *http.Request, gvk schema.GroupVersionKind, into runtime.Object) error {
	format, err := bodyFormat(r)
	if err != nil {
		return err
	}
	b, err := a.readBody(r)
	if err != nil {
		return err
	}
	mode, err := fieldValidationOf(r.URL.Query().Get("fieldValidation"))
	if err != nil {
		return err
	}
	strict, err := decodeInto(format, b, gvk, into, mode != validateIgnore)
	if err == nil {
		err = applyStrict(r.Context(), mode, strict)
	}
	if err != nil {
		return badBody(gvk, err, b)
	}
	return nil
}

// ReadPatched decodes what a JSON or merge patch made of an object of another kind
// than the target's; body is the patch.
func (a *API) ReadPatched(r *http.Request, gvk schema.GroupVersionKind, kind types.PatchType, body, doc []byte, into runtime.Object) error {
	mode, err := fieldValidationOf(r.URL.Query().Get("fieldValidation"))
	if err != nil {
		return err
	}
	var said []error
	if mode != validateIgnore && kind != types.JSONPatchType {
		var patch map[string]any
		if said, err = kjson.UnmarshalStrict(body, &patch); err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
		}
	}
	strict, err := decodeInto(formatJSON, doc, gvk, into, mode != validateIgnore)
	if err == nil {
		err = applyStrict(r.Context(), mode, append(said, strict...))
	}
	if err != nil {
		return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), string(doc), err.Error())})
	}
	return nil
}

// Body reads a request's body, bounded.
func (a *API) Body(r *http.Request) ([]byte, error) { return a.readBody(r) }

// ManagerName is who a request's write is recorded for in managedFields.
func ManagerName(r *http.Request) string {
	return managerName(r.URL.Query().Get("fieldManager"), r)
}
