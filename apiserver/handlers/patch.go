package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"skiff/apiserver/resources"
)

const (
	// maxPatchOperations bounds a JSON patch, as upstream.
	maxPatchOperations = 10000

	applyCBOR = "application/apply-patch+cbor"
)

func (a *API) patch(w http.ResponseWriter, r *http.Request, t *Target, s *resources.Strategy) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	kind := types.PatchType(media)
	accepted := t.patchTypes()
	if err != nil || !accepted[kind] {
		a.WriteError(w, r, UnknownPatch())
		return
	}
	rules := kind
	if kind == applyCBOR {
		rules = types.ApplyYAMLPatchType
	}
	o, err := patchOptions(r, rules)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	mode, err := fieldValidationOf(o.FieldValidation)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	b, err := a.readBody(r)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	// Admission sees a patch as the update that it is.
	seen := &metav1.UpdateOptions{TypeMeta: metav1.TypeMeta{Kind: "UpdateOptions", APIVersion: "meta.k8s.io/v1"}, DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
	c := change{patch: true, options: seen, dry: dryRun(o.DryRun), manager: managerName(o.FieldManager, r)}
	if rules == types.ApplyYAMLPatchType {
		c.manager = o.FieldManager
		c.tracked = true
		c.create = t.Subresource == ""
		c.next, err = a.applyPatch(t, s, media, b, o, mode)
	} else {
		p := &patcher{t: t, kind: kind, body: b, mode: mode}
		c.next, err = p.next, p.check()
	}
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	it, created, err := a.write(r.Context(), t, s, c)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	code := http.StatusOK
	if created {
		code = http.StatusCreated
	}
	a.writeItem(w, r, t, code, it)
}

// UnknownPatch is the answer to a patch of a type that the resource does not take.
func UnknownPatch() error {
	return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "", "415: Unsupported Media Type", 0, false)
}

// CheckPatch refuses the body of a JSON, merge or strategic merge patch that no
// object can be patched with.
func CheckPatch(kind types.PatchType, body []byte) error {
	_, _, err := checkPatch(kind, body)
	return err
}

func checkPatch(kind types.PatchType, body []byte) (ops jsonpatch.Patch, strict []error, err error) {
	if !json.Valid(body) {
		return nil, nil, apierrors.NewBadRequest("invalid JSON patch")
	}
	if kind != types.JSONPatchType {
		return nil, nil, nil
	}
	var probe []jsonPatchOp
	said, err := kjson.UnmarshalStrict(body, &probe)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if len(probe) > maxPatchOperations {
		return nil, nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(probe)))
	}
	for _, err := range said {
		strict = append(strict, fmt.Errorf("json patch %w", err))
	}
	if ops, err = jsonpatch.DecodePatch(body); err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	return ops, strict, nil
}

// patchTypes: custom resources have no strategic merge.
func (t *Target) patchTypes() map[types.PatchType]bool {
	out := map[types.PatchType]bool{types.JSONPatchType: true, types.MergePatchType: true, types.ApplyYAMLPatchType: true, applyCBOR: true}
	if _, untyped := t.Version.New().(*unstructured.Unstructured); !untyped {
		out[types.StrategicMergePatchType] = true
	}
	return out
}

// patcher applies one patch to whatever is current.
type patcher struct {
	t    *Target
	kind types.PatchType
	body []byte
	mode fieldValidation
	// ops and strict are of a JSON patch.
	ops    jsonpatch.Patch
	strict []error
}

// check refuses what no object can be patched with.
func (p *patcher) check() error {
	var err error
	p.ops, p.strict, err = checkPatch(p.kind, p.body)
	return err
}

type jsonPatchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

// next is the patched object, as the hub.
func (p *patcher) next(ctx context.Context, cur runtime.Object) (runtime.Object, error) {
	t := p.t
	if cur == nil {
		return nil, apierrors.NewNotFound(t.GR(), t.Name)
	}
	versioned, err := t.version(cur)
	if err != nil {
		return nil, err
	}
	var out patched
	switch p.kind {
	case types.StrategicMergePatchType:
		out, err = p.strategic(versioned)
	case types.MergePatchType:
		out, err = p.merge(versioned)
	default:
		out, err = p.document(versioned, func(doc []byte) ([]byte, error) { return applyJSONPatch(p.ops, doc) })
		out.strict = append(slices.Clone(p.strict), out.strict...)
	}
	if err != nil {
		return nil, err
	}
	if err = out.err; err == nil {
		err = applyStrict(ctx, p.mode, out.strict)
	}
	if err != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), out.shown(), err.Error())})
	}
	return t.toHub(out.obj)
}

// patched is what a patch made of an object.
type patched struct {
	obj runtime.Object
	// strict has the unknown and duplicate fields.
	strict []error
	// err is why the outcome is none of its kind, shown the value that it names.
	err   error
	shown func() string
}

// document patches the object's JSON.
func (p *patcher) document(versioned runtime.Object, patch func(doc []byte) ([]byte, error)) (patched, error) {
	bare, err := body(formatJSON, versioned)
	if err != nil {
		return patched{}, err
	}
	gvk := p.t.GVK()
	doc, err := patch(typed(formatJSON, gvk, bare, hasType(versioned)))
	if err != nil {
		return patched{}, err
	}
	out := patched{obj: p.t.Version.New(), shown: func() string { return string(doc) }}
	if out.strict, out.err = decodeInto(formatJSON, doc, gvk, out.obj, p.mode != validateIgnore); out.err == nil {
		out.strict, out.err = p.t.coerce(out.obj, p.mode, out.strict)
	}
	var wrong wrongType
	if _, custom := out.obj.(*unstructured.Unstructured); custom && errors.As(out.err, &wrong) {
		return patched{}, badCustom(p.t.Resource.Kind, doc, wrong, out.err)
	}
	return out, nil
}

// read decodes the patch into a tree of values.
func (p *patcher) read() (patch map[string]any, strict []error, err error) {
	if p.mode == validateIgnore {
		return patch, nil, unmarshalPreserving(p.body, &patch)
	}
	strict, err = kjson.UnmarshalStrict(p.body, &patch)
	return patch, strict, err
}

// Bounds of copy operations, which can double a document: its size after each
// of them, and the work of them all.
const (
	maxCopiedBytes = 3 << 20
	maxCopyWork    = 64 << 20
)

func applyJSONPatch(ops jsonpatch.Patch, doc []byte) ([]byte, error) {
	work := 0
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && ops[n-1].Kind() != "copy" {
			n++
		}
		var err error
		if doc, err = applyOps(ops[:n], doc); err != nil {
			return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
		}
		ops = ops[n:]
		work += len(doc)
		if len(doc) > maxCopiedBytes || work > maxCopyWork && len(ops) > 0 {
			return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the JSON patch makes a document of %d bytes, the limit is %d; make fewer copies", len(doc), maxCopiedBytes))
		}
	}
	return doc, nil
}

// applyOps applies operations. The library cannot compare lists that hold null: a
// patch that has it do so is refused like any other that does not fit.
func applyOps(ops jsonpatch.Patch, doc []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("the operations cannot be applied: %v", p)
		}
	}()
	return ops.Apply(doc)
}
