// Package adoption settles which objects belong to a controller: it adopts
// matching orphans and releases owned objects that no longer match.
package adoption

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Claimer claims objects of one kind for one controller.
type Claimer struct {
	// Controller owns the objects. Required.
	Controller metav1.Object
	// Kind is the controller's. Required.
	Kind schema.GroupVersionKind
	// Selector says which objects match. Required.
	Selector labels.Selector
	// Fresh reads the controller from the API, not a cache: an adoption is
	// refused when it was deleted or replaced meanwhile. Required.
	Fresh func(ctx context.Context) (metav1.Object, error)
	// Patch sends a strategic merge patch to the object, as With does. Required.
	Patch func(ctx context.Context, name string, patch []byte) error
	// Finalizers are added on adoption and removed on release.
	Finalizers []string
}

// With patches by the client of the namespace that controller and objects are in.
func With[T any](client interface {
	Patch(ctx context.Context, name string, kind types.PatchType, patch []byte, o metav1.PatchOptions, subresources ...string) (T, error)
}) func(context.Context, string, []byte) error {
	return func(ctx context.Context, name string, patch []byte) error {
		_, err := client.Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		return err
	}
}

// Selecting are the keys of the controllers whose selectors match an object's labels.
func Selecting[C metav1.Object](controllers []C, object map[string]string, selector func(C) *metav1.LabelSelector) []string {
	var keys []string
	for _, c := range controllers {
		s, err := metav1.LabelSelectorAsSelector(selector(c))
		if err == nil && !s.Empty() && s.Matches(labels.Set(object)) {
			keys = append(keys, c.GetNamespace()+"/"+c.GetName())
		}
	}
	return keys
}

// Verdict is what to do with an object.
type Verdict int

// Verdicts of Judge.
const (
	Ignore Verdict = iota
	Keep
	Adopt
	Release
)

// Judge decides from the owner reference and the match alone.
func Judge(controller, obj metav1.Object, matches bool) Verdict {
	ref := metav1.GetControllerOfNoCopy(obj)
	switch {
	case ref != nil && ref.UID != controller.GetUID():
		return Ignore
	case ref != nil && matches:
		return Keep
	case ref != nil && controller.GetDeletionTimestamp() != nil:
		return Ignore
	case ref != nil:
		return Release
	case controller.GetDeletionTimestamp() != nil || !matches:
		return Ignore
	case obj.GetDeletionTimestamp() != nil:
		return Ignore
	case controller.GetNamespace() != "" && controller.GetNamespace() != obj.GetNamespace():
		return Ignore
	}
	return Adopt
}

// Claim returns the objects that are the controller's after adopting and
// releasing. also narrows the match (nil: the selector alone).
func Claim[T metav1.Object](ctx context.Context, c Claimer, objs []T, also func(T) bool) ([]T, error) {
	var (
		mine    []T
		errs    []error
		checked bool
		refusal error
	)
	for _, obj := range objs {
		matches := c.Selector.Matches(labels.Set(obj.GetLabels())) && (also == nil || also(obj))
		switch Judge(c.Controller, obj, matches) {
		case Keep:
			mine = append(mine, obj)
		case Adopt:
			if !checked {
				refusal, checked = c.mayAdopt(ctx), true
			}
			if refusal != nil {
				errs = append(errs, fmt.Errorf("can't adopt %T %s/%s (%s): %w", obj, obj.GetNamespace(), obj.GetName(), obj.GetUID(), refusal))
				continue
			}
			err := c.adopt(ctx, obj)
			switch {
			case err == nil:
				mine = append(mine, obj)
			case !apierrors.IsNotFound(err):
				errs = append(errs, err)
			}
		case Release:
			if err := c.release(ctx, obj); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return mine, errors.Join(errs...)
}

func (c Claimer) mayAdopt(ctx context.Context) error {
	fresh, err := c.Fresh(ctx)
	if err != nil {
		return err
	}
	if fresh.GetUID() != c.Controller.GetUID() {
		return fmt.Errorf("original %s %s/%s is gone: got uid %s, wanted %s", c.Kind.Kind,
			c.Controller.GetNamespace(), c.Controller.GetName(), fresh.GetUID(), c.Controller.GetUID())
	}
	if fresh.GetDeletionTimestamp() != nil {
		return fmt.Errorf("%s %s/%s has just been deleted at %v", c.Kind.Kind,
			c.Controller.GetNamespace(), c.Controller.GetName(), fresh.GetDeletionTimestamp())
	}
	return nil
}

func (c Claimer) adopt(ctx context.Context, obj metav1.Object) error {
	metadata := map[string]any{
		"ownerReferences": []*metav1.OwnerReference{metav1.NewControllerRef(c.Controller, c.Kind)},
		"uid":             obj.GetUID(),
	}
	if len(c.Finalizers) > 0 {
		metadata["finalizers"] = c.Finalizers
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return err
	}
	return c.Patch(ctx, obj.GetName(), patch)
}

func (c Claimer) release(ctx context.Context, obj metav1.Object) error {
	patch, err := ReleasePatch(obj.GetUID(), c.Controller.GetUID(), c.Finalizers)
	if err != nil {
		return err
	}
	err = c.Patch(ctx, obj.GetName(), patch)
	// Invalid means that the UID changed or the reference is already gone.
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return nil
	}
	return err
}

// ReleasePatch removes an owner and the finalizers from the object with uid.
func ReleasePatch(uid, owner types.UID, finalizers []string) ([]byte, error) {
	metadata := map[string]any{
		"ownerReferences": []map[string]any{{"$patch": "delete", "uid": owner}},
		"uid":             uid,
	}
	if len(finalizers) > 0 {
		metadata["$deleteFromPrimitiveList/finalizers"] = slices.Clone(finalizers)
	}
	return json.Marshal(map[string]any{"metadata": metadata})
}
