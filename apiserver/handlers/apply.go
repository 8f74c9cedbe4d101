package handlers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skiff/apiserver/resources"
	"skiff/apiserver/store"
)

// applyPatch is server-side apply: the result of merging a configuration, which
// has done its own field management.
func (a *API) applyPatch(t *Target, s *resources.Strategy, media string, b []byte, o *metav1.PatchOptions, mode fieldValidation) (store.Mutate, error) {
	format := formatYAML
	if media == applyCBOR {
		format = formatCBOR
	}
	doc, strict, err := bodyJSON(format, b)
	u := &unstructured.Unstructured{}
	if err == nil {
		err = unmarshalPreserving(doc, &u.Object)
	}
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if u.Object == nil {
		u.Object = map[string]any{}
	}
	if u.GetAPIVersion() != "" && u.GetKind() != "" && u.GroupVersionKind().Kind != t.Resource.Kind {
		return nil, apierrors.NewBadRequest("invalid object type: " + u.GroupVersionKind().String())
	}
	m, err := a.manager(t, s)
	if err != nil {
		return nil, err
	}
	force := o.Force != nil && *o.Force
	return func(ctx context.Context, cur runtime.Object) (runtime.Object, error) {
		if cur == nil {
			if t.Subresource != "" {
				return nil, apierrors.NewNotFound(t.GR(), t.Name)
			}
			cur = t.emptyHub()
		}
		live, err := t.withType(cur)
		if err != nil {
			return nil, err
		}
		out, err := m.Apply(live, u.DeepCopy(), o.FieldManager, force)
		if err != nil {
			return nil, err
		}
		if len(strict) > 0 && mode == validateStrict {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error strict decoding patch: %v", strict[0]))
		}
		if err := applyStrict(ctx, mode, strict); err != nil {
			return nil, err
		}
		return t.hubOf(out)
	}, nil
}

// hubOf is the hub form of what the field manager made, which has its type set
// and is defaulted.
func (t *Target) hubOf(obj runtime.Object) (runtime.Object, error) {
	v, err := versions{t.Resource}.find(obj.GetObjectKind().GroupVersionKind().GroupVersion())
	if err != nil {
		return nil, err
	}
	if v.ToHub != nil {
		if obj, err = v.ToHub(obj); err != nil {
			return nil, err
		}
	}
	return untype(obj), nil
}

// Apply is server-side apply of a configuration in the resource's own form, which a
// subresource made of what the request's body says. The options are the request's.
func (a *API) Apply(r *http.Request, t *Target, s *resources.Strategy, config map[string]any) (*store.Item, error) {
	o, err := patchOptions(r, types.ApplyYAMLPatchType)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	seen := &metav1.UpdateOptions{TypeMeta: metav1.TypeMeta{Kind: "UpdateOptions", APIVersion: "meta.k8s.io/v1"}, DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation}
	c := change{patch: true, options: seen, dry: dryRun(o.DryRun), manager: o.FieldManager, tracked: true}
	if c.next, err = a.applyPatch(t, s, "", b, o, validateIgnore); err != nil {
		return nil, err
	}
	it, _, err := a.write(r.Context(), t, s, c)
	return it, err
}
