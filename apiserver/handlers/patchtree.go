package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// merge applies a JSON merge patch (RFC 7386) to the object's tree of values, which
// costs half of what its document does. What comes out wrong is patched once more as
// a document, whose errors are the ones that clients know.
func (p *patcher) merge(versioned runtime.Object) (patched, error) {
	patch, strict, err := p.read()
	if err != nil && p.mode != validateIgnore {
		return patched{}, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if err == nil && patch != nil {
		out, err := p.tree(versioned, patch, func(tree map[string]any) (map[string]any, error) {
			mergeTree(tree, patch)
			return tree, nil
		})
		if err == nil && out.err == nil && len(out.strict) == 0 && (len(strict) == 0 || p.mode != validateStrict) {
			out.strict = strict
			return out, nil
		}
	}
	out, err := p.document(versioned, func(doc []byte) ([]byte, error) {
		doc, err := jsonpatch.MergePatch(doc, p.body)
		if errors.Is(err, jsonpatch.ErrBadJSONPatch) {
			err = apierrors.NewBadRequest(err.Error())
		}
		return doc, err
	})
	out.strict = append(strict, out.strict...)
	return out, err
}

// strategic applies a strategic merge patch.
func (p *patcher) strategic(versioned runtime.Object) (patched, error) {
	patch, strict, err := p.read()
	if err != nil {
		return patched{}, apierrors.NewBadRequest(err.Error())
	}
	out, err := p.tree(versioned, patch, func(tree map[string]any) (map[string]any, error) {
		return strategicpatch.StrategicMergeMapPatch(tree, patch, p.t.Version.New())
	})
	out.strict = append(strict, out.strict...)
	out.shown = func() string { return fmt.Sprintf("%+v", patch) }
	switch {
	case err == nil:
		return out, nil
	case errors.Is(err, mergepatch.ErrNoListOfLists), errors.Is(err, mergepatch.ErrPatchContentNotMatchRetainKeys):
		return out, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	// What cannot be merged is the patch: the object comes from here.
	return out, apierrors.NewBadRequest(err.Error())
}

// tree patches the object's tree of values. The managed fields, whose own documents
// cost more than the rest of a small object, stay out of it where no patch sees them.
func (p *patcher) tree(versioned runtime.Object, patch map[string]any, apply func(map[string]any) (map[string]any, error)) (patched, error) {
	gvk := p.t.GVK()
	var tree map[string]any
	var managed []metav1.ManagedFieldsEntry
	u, untyped := versioned.(*unstructured.Unstructured)
	if untyped {
		tree = runtime.DeepCopyJSON(u.Object)
	} else {
		if leavesManagedFields(patch) {
			versioned = shallow(versioned)
			m, err := meta.Accessor(versioned)
			if err != nil {
				return patched{}, err
			}
			managed = slices.Clone(m.GetManagedFields())
			m.SetManagedFields(nil)
		}
		var err error
		if tree, err = runtime.DefaultUnstructuredConverter.ToUnstructured(versioned); err != nil {
			return patched{}, err
		}
	}
	tree["apiVersion"], tree["kind"] = gvk.ToAPIVersionAndKind()
	tree, err := apply(tree)
	if err != nil {
		return patched{}, err
	}
	out := patched{obj: p.t.Version.New()}
	if got := schema.FromAPIVersionAndKind(text(tree["apiVersion"]), text(tree["kind"])); got != gvk && p.kind != types.StrategicMergePatchType {
		out.err = wrongType{got, gvk}
		return out, nil
	}
	if untyped {
		out.obj.(*unstructured.Unstructured).Object = tree
		out.strict, out.err = p.t.coerce(out.obj, p.mode, nil)
		return out, nil
	}
	delete(tree, "apiVersion")
	delete(tree, "kind")
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(tree, out.obj, p.mode != validateIgnore)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		out.strict, err = strict.Errors(), nil
	}
	if out.err = err; err != nil || managed == nil {
		return out, nil
	}
	m, err := meta.Accessor(out.obj)
	if err != nil {
		return patched{}, err
	}
	m.SetManagedFields(managed)
	return out, nil
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// leavesManagedFields tells whether a patch, of either kind, names neither them nor
// what holds them.
func leavesManagedFields(patch map[string]any) bool {
	metadata, there := patch["metadata"]
	inner, ok := metadata.(map[string]any)
	if there && !ok {
		return false
	}
	if _, named := inner["managedFields"]; named {
		return false
	}
	return !hasDirective(patch) && !hasDirective(inner)
}

func hasDirective(patch map[string]any) bool {
	for k := range patch {
		if strings.HasPrefix(k, "$") {
			return true
		}
	}
	return false
}

// mergeTree merges a patch into a tree as the library does that merges documents:
// nulls go, also those below what is new.
func mergeTree(tree, patch map[string]any) {
	for k, v := range patch {
		below, isTree := tree[k].(map[string]any)
		inner, isPatch := v.(map[string]any)
		switch {
		case v == nil:
			delete(tree, k)
		case isTree && isPatch:
			mergeTree(below, inner)
		case isTree:
			tree[k] = v
		default:
			dropNulls(v)
			tree[k] = v
		}
	}
}

func dropNulls(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if inner == nil {
				delete(v, k)
			} else {
				dropNulls(inner)
			}
		}
	case []any:
		for _, inner := range v {
			dropNulls(inner)
		}
	}
}
