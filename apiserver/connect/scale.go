package connect

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/handlers"
	"skiff/apiserver/store"
)

var scaleKind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// maxScaleBody bounds a patch of a Scale, which has a handful of fields.
const maxScaleBody = 1 << 20

// scaled are the parts of a kind that its Scale shows.
type scaled struct {
	meta     *metav1.ObjectMeta
	replicas **int32
	status   int32
	selector string
	// store writes replicas and the version back into an untyped object.
	store func() error
}

func scaledOf(t *handlers.Target, obj runtime.Object) (scaled, error) {
	switch o := obj.(type) {
	case *unstructured.Unstructured:
		return scaledCustom(t, o)
	case *appsv1.Deployment:
		return scaled{meta: &o.ObjectMeta, replicas: &o.Spec.Replicas, status: o.Status.Replicas, selector: selectorText(o.Spec.Selector)}, nil
	case *appsv1.ReplicaSet:
		return scaled{meta: &o.ObjectMeta, replicas: &o.Spec.Replicas, status: o.Status.Replicas, selector: selectorText(o.Spec.Selector)}, nil
	case *appsv1.StatefulSet:
		return scaled{meta: &o.ObjectMeta, replicas: &o.Spec.Replicas, status: o.Status.Replicas, selector: selectorText(o.Spec.Selector)}, nil
	case *corev1.ReplicationController:
		return scaled{meta: &o.ObjectMeta, replicas: &o.Spec.Replicas, status: o.Status.Replicas, selector: labels.SelectorFromSet(o.Spec.Selector).String()}, nil
	}
	return scaled{}, fmt.Errorf("%T has no scale", obj)
}

func selectorText(s *metav1.LabelSelector) string {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	return sel.String()
}

func (s scaled) scale() *autoscalingv1.Scale {
	out := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: s.meta.Name, Namespace: s.meta.Namespace, UID: s.meta.UID, ResourceVersion: s.meta.ResourceVersion,
			CreationTimestamp: s.meta.CreationTimestamp,
		},
		Status: autoscalingv1.ScaleStatus{Replicas: s.status, Selector: s.selector},
	}
	if *s.replicas != nil {
		out.Spec.Replicas = **s.replicas
	}
	return out
}

// set changes the number of replicas.
func (s scaled) set(replicas int32) error {
	*s.replicas = &replicas
	if s.store == nil {
		return nil
	}
	return s.store()
}

// shownScale is the Scale that admission sees of an object.
func shownScale(t *handlers.Target) *handlers.Shown {
	return &handlers.Shown{
		Kind: scaleKind,
		Of: func(obj runtime.Object) (runtime.Object, error) {
			part, err := scaledOf(t, obj)
			if err != nil {
				return nil, err
			}
			return part.scale(), nil
		},
		Take: func(obj, shown runtime.Object) error {
			part, err := scaledOf(t, obj)
			if err != nil {
				return err
			}
			admitted, ok := shown.(*autoscalingv1.Scale)
			if !ok {
				return fmt.Errorf("admission made a %T of a Scale", shown)
			}
			if err := checkScale(t, part.scale(), admitted, part.store != nil); err != nil {
				return err
			}
			if *part.replicas != nil && **part.replicas == admitted.Spec.Replicas {
				return nil
			}
			return part.set(admitted.Spec.Replicas)
		},
	}
}

// scale reads and sets the number of replicas.
func (c *connectors) scale(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		it, err := t.Store.Get(r.Context(), t.Namespace, t.Name, r.URL.Query().Get("resourceVersion"))
		if err != nil {
			handlers.WriteError(w, r, err)
			return
		}
		obj, err := it.Copy()
		if err != nil {
			handlers.WriteError(w, r, err)
			return
		}
		part, err := scaledOf(t, obj)
		if err == nil && part.store != nil && *part.replicas == nil {
			err = noReplicas(t)
		}
		if err != nil {
			handlers.WriteError(w, r, err)
			return
		}
		c.API.WriteKind(w, r, http.StatusOK, scaleKind, part.scale())
		return
	}
	t.Shown = shownScale(t)
	if r.Method == http.MethodPatch && patchType(r) == types.ApplyYAMLPatchType {
		it, err := c.applyScale(r, t)
		if err != nil {
			handlers.WriteError(w, r, err)
			return
		}
		c.writeScaleOf(w, r, t, it)
		return
	}
	next, err := c.scaleChange(r, t)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	q := r.URL.Query()
	manager := q.Get("fieldManager")
	if manager == "" {
		manager, _, _ = strings.Cut(r.UserAgent(), "/")
	}
	o := &metav1.UpdateOptions{DryRun: dryRunOf(r), FieldManager: manager, FieldValidation: q.Get("fieldValidation")}
	it, _, err := c.API.Update(r.Context(), t, &t.Resource.Strategy, o, func(_ context.Context, cur runtime.Object) (runtime.Object, error) {
		if cur == nil {
			return nil, apierrors.NewNotFound(t.GR(), t.Name)
		}
		part, err := scaledOf(t, cur)
		if err != nil {
			return nil, err
		}
		was := part.scale()
		wished, err := next(was)
		if err != nil {
			return nil, err
		}
		if err := checkScale(t, was, wished, part.store != nil); err != nil {
			return nil, err
		}
		part.meta.ResourceVersion = was.ResourceVersion
		if wished.ResourceVersion != "" {
			part.meta.ResourceVersion = wished.ResourceVersion
		}
		return cur, part.set(wished.Spec.Replicas)
	})
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	c.writeScaleOf(w, r, t, it)
}

// writeScaleOf answers with the Scale of an object.
func (c *connectors) writeScaleOf(w http.ResponseWriter, r *http.Request, t *handlers.Target, it *store.Item) {
	obj, err := it.Copy()
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	c.writeScale(w, r, t, obj)
}

func patchType(r *http.Request) types.PatchType {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return types.PatchType(media)
}

// readScalePatch reads the body of a patch, which is bounded.
func readScalePatch(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxScaleBody+1))
	if err != nil {
		return nil, apierrors.NewBadRequest("reading the request's body: " + err.Error())
	}
	if len(body) > maxScaleBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxScaleBody))
	}
	return body, nil
}

// checkScale is about what a Scale says of itself. How many replicas a custom
// resource may have is for the rules of its kind to say.
func checkScale(t *handlers.Target, was, wished *autoscalingv1.Scale, custom bool) error {
	if wished.Name == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", was.Name))
	}
	if wished.Name != was.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", wished.Name, was.Name))
	}
	if wished.Namespace != "" && wished.Namespace != was.Namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if wished.UID != "" && wished.UID != was.UID {
		return apierrors.NewConflict(t.GR(), t.Name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", wished.UID, was.UID))
	}
	if wished.Spec.Replicas < 0 && !custom {
		return apierrors.NewInvalid(scaleKind.GroupKind(), was.Name, field.ErrorList{
			field.Invalid(field.NewPath("spec", "replicas"), wished.Spec.Replicas, "must be greater than or equal to 0")})
	}
	return nil
}

// scaleChange is what the request makes of a Scale.
func (c *connectors) scaleChange(r *http.Request, t *handlers.Target) (func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error), error) {
	if r.Method == http.MethodPut {
		in := &autoscalingv1.Scale{}
		if err := c.API.ReadInto(r, scaleKind, in); err != nil {
			return nil, err
		}
		return func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) { return in, nil }, nil
	}
	body, err := readScalePatch(r)
	if err != nil {
		return nil, err
	}
	kind := patchType(r)
	switch kind {
	case types.JSONPatchType, types.MergePatchType:
	case types.StrategicMergePatchType:
		if t.Resource.Subresources["scale"].Scale != nil {
			return nil, handlers.UnknownPatch()
		}
	default:
		return nil, handlers.UnknownPatch()
	}
	if err := handlers.CheckPatch(kind, body); err != nil {
		return nil, err
	}
	return func(was *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
		doc, err := patchScale(was, kind, body)
		if err != nil {
			return nil, err
		}
		out := &autoscalingv1.Scale{}
		if err := c.API.ReadPatched(r, scaleKind, kind, body, doc, out); err != nil {
			return nil, err
		}
		return out, nil
	}, nil
}

// patchScale is the document that a patch makes of a Scale.
func patchScale(was *autoscalingv1.Scale, kind types.PatchType, body []byte) ([]byte, error) {
	was = was.DeepCopy()
	was.SetGroupVersionKind(scaleKind)
	doc, err := json.Marshal(was)
	if err != nil {
		return nil, err
	}
	if kind == types.JSONPatchType {
		p, err := jsonpatch.DecodePatch(body)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if doc, err = p.Apply(doc); err != nil {
			return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
		}
	} else if doc, err = jsonpatch.MergePatch(doc, body); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return doc, nil
}

func (c *connectors) writeScale(w http.ResponseWriter, r *http.Request, t *handlers.Target, obj runtime.Object) {
	part, err := scaledOf(t, obj)
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	c.API.WriteKind(w, r, http.StatusOK, scaleKind, part.scale())
}
