package garbagecollector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

// Decision is what to do with an object that has owners.
type Decision int

// Decisions of Decide.
const (
	Leave Decision = iota
	// Unlink removes the references to owners that are gone or leaving.
	Unlink
	// DeleteForeground deletes the object after its own dependents.
	DeleteForeground
	// Delete deletes the object.
	Delete
)

// Owners sorts an object's references by what their owners are doing.
type Owners struct {
	Solid, Dangling, Waiting []metav1.OwnerReference
}

// Decide is the rule of cascading deletion.
func Decide(o Owners, dependents int) Decision {
	switch {
	case len(o.Solid)+len(o.Dangling)+len(o.Waiting) == 0:
		return Leave
	case len(o.Solid) > 0 && len(o.Dangling)+len(o.Waiting) == 0:
		return Leave
	case len(o.Solid) > 0:
		return Unlink
	case len(o.Waiting) > 0 && dependents > 0:
		return DeleteForeground
	}
	return Delete
}

func (c *Controller) resource(n Node) metadata.ResourceInterface {
	return c.metadata.Resource(n.Resource).Namespace(n.Namespace)
}

// attempt looks at one object: its owners decide whether it stays.
func (c *Controller) attempt(ctx context.Context, uid types.UID) error {
	n, ok := c.graph.Get(uid)
	if !ok || n.Virtual || n.Deleting && !n.Foreground {
		return nil
	}
	live, err := c.resource(n).Get(ctx, n.Reference.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.UID != uid {
		c.notify(c.graph.Forget(uid))
		return nil
	}
	if err != nil {
		return err
	}
	if n.Foreground {
		return c.finishForeground(ctx, n, live)
	}
	owners, err := c.classify(ctx, n, live.OwnerReferences)
	if err != nil {
		return err
	}
	dependents := c.graph.Dependents(uid)
	switch Decide(owners, len(dependents)) {
	case Unlink:
		var gone []types.UID
		for _, ref := range append(owners.Dangling, owners.Waiting...) {
			gone = append(gone, ref.UID)
		}
		return c.unlink(ctx, n, gone)
	case DeleteForeground:
		// Two objects that block each other would wait for ever.
		for _, d := range dependents {
			if d.Foreground {
				if err := c.unblock(ctx, n, live); err != nil {
					return err
				}
				break
			}
		}
		return c.delete(ctx, n, live, metav1.DeletePropagationForeground)
	case Delete:
		policy := metav1.DeletePropagationBackground
		switch {
		case slices.Contains(live.Finalizers, metav1.FinalizerOrphanDependents):
			policy = metav1.DeletePropagationOrphan
		case slices.Contains(live.Finalizers, metav1.FinalizerDeleteDependents):
			policy = metav1.DeletePropagationForeground
		}
		return c.delete(ctx, n, live, policy)
	}
	return nil
}

func (c *Controller) delete(ctx context.Context, n Node, live *metav1.PartialObjectMetadata, policy metav1.DeletionPropagation) error {
	err := c.resource(n).Delete(ctx, n.Reference.Name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion},
		PropagationPolicy: &policy,
	})
	if apierrors.IsNotFound(err) {
		c.notify(c.graph.Forget(n.UID))
		return nil
	}
	return err
}

// finishForeground lets the object go when nothing that blocks it is left.
func (c *Controller) finishForeground(ctx context.Context, n Node, live *metav1.PartialObjectMetadata) error {
	blocked := false
	for _, d := range c.graph.Dependents(n.UID) {
		if d.Blocks(n.UID) {
			blocked = true
			if !d.Foreground {
				c.Add(string(d.UID))
			}
		}
	}
	if blocked {
		return nil
	}
	return c.dropFinalizer(ctx, n, live, metav1.FinalizerDeleteDependents)
}

// orphan frees an owner's dependents and then the owner.
func (c *Controller) orphan(ctx context.Context, uid types.UID) error {
	n, ok := c.graph.Get(uid)
	if !ok || n.Virtual {
		return nil
	}
	var errs []error
	for _, d := range c.graph.Dependents(uid) {
		if err := c.unlink(ctx, d, []types.UID{uid}); err != nil {
			errs = append(errs, fmt.Errorf("free %s %s/%s: %w", d.Reference.Kind, d.Namespace, d.Reference.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	live, err := c.resource(n).Get(ctx, n.Reference.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.UID != uid {
		return nil
	}
	if err != nil {
		return err
	}
	return c.dropFinalizer(ctx, n, live, metav1.FinalizerOrphanDependents)
}

func (c *Controller) patch(ctx context.Context, n Node, metadata map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return err
	}
	_, err = c.resource(n).Patch(ctx, n.Reference.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Controller) dropFinalizer(ctx context.Context, n Node, live *metav1.PartialObjectMetadata, finalizer string) error {
	if !slices.Contains(live.Finalizers, finalizer) {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(live.Finalizers), func(f string) bool { return f == finalizer })
	return c.patch(ctx, n, map[string]any{"resourceVersion": live.ResourceVersion, "uid": live.UID, "finalizers": left})
}

// unlink removes owners from an object. The version is part of the patch: a
// reference that was added meanwhile must survive.
func (c *Controller) unlink(ctx context.Context, n Node, owners []types.UID) error {
	live, err := c.resource(n).Get(ctx, n.Reference.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.UID != n.UID {
		return nil
	}
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(live.OwnerReferences), func(r metav1.OwnerReference) bool { return slices.Contains(owners, r.UID) })
	if len(left) == len(live.OwnerReferences) {
		return nil
	}
	return c.patch(ctx, n, map[string]any{"resourceVersion": live.ResourceVersion, "uid": live.UID, "ownerReferences": left})
}

func (c *Controller) unblock(ctx context.Context, n Node, live *metav1.PartialObjectMetadata) error {
	refs := slices.Clone(live.OwnerReferences)
	no, changed := false, false
	for i := range refs {
		if b := refs[i].BlockOwnerDeletion; b != nil && *b {
			refs[i].BlockOwnerDeletion, changed = &no, true
		}
	}
	if !changed {
		return nil
	}
	if err := c.patch(ctx, n, map[string]any{"resourceVersion": live.ResourceVersion, "uid": live.UID, "ownerReferences": refs}); err != nil {
		return err
	}
	fresh, err := c.resource(n).Get(ctx, n.Reference.Name, metav1.GetOptions{})
	if err == nil {
		*live = *fresh
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// classify asks the API about each owner: the graph alone may be late.
func (c *Controller) classify(ctx context.Context, n Node, refs []metav1.OwnerReference) (Owners, error) {
	var out Owners
	for _, ref := range refs {
		owner, gone, err := c.owner(ctx, n, ref)
		switch {
		case err != nil:
			return out, err
		case gone:
			out.Dangling = append(out.Dangling, ref)
		case owner != nil && owner.DeletionTimestamp != nil && slices.Contains(owner.Finalizers, metav1.FinalizerDeleteDependents):
			out.Waiting = append(out.Waiting, ref)
		default:
			out.Solid = append(out.Solid, ref)
		}
	}
	return out, nil
}

// owner finds the object of a reference; gone when it surely does not exist.
// An owner that cannot be resolved counts as there.
func (c *Controller) owner(ctx context.Context, n Node, ref metav1.OwnerReference) (o *metav1.PartialObjectMetadata, gone bool, err error) {
	if c.absent.has(ref, n.Namespace) {
		c.elsewhere(n, ref)
		return nil, true, nil
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, false, nil
	}
	at, err := c.where(gv.WithKind(ref.Kind), ref)
	if err != nil {
		return nil, false, err
	}
	namespace := n.Namespace
	if !at.namespaced {
		namespace = ""
	} else if namespace == "" {
		c.invalid(n, ref)
		return nil, false, nil
	}
	o, err = c.metadata.Resource(at.gvr).Namespace(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && o.UID != ref.UID {
		c.elsewhere(n, ref)
		c.absent.add(ref, n.Namespace)
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	return o, false, nil
}

// elsewhere tells of an owner that is in another namespace: there it owns nothing
// of this one.
func (c *Controller) elsewhere(n Node, ref metav1.OwnerReference) {
	if known, ok := c.graph.Get(ref.UID); ok && !known.Virtual && known.Namespace != "" && known.Namespace != n.Namespace {
		c.invalid(n, ref)
	}
}

// where finds the resource of an owner's kind.
func (c *Controller) where(gvk schema.GroupVersionKind, ref metav1.OwnerReference) (kept, error) {
	if k, ok := c.stream.find(gvk); ok {
		return k, nil
	}
	mapper := c.mapper.Load()
	if mapper == nil {
		return kept{}, errors.New("the API's resources are not known yet")
	}
	mapping, err := (*mapper).RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		return kept{}, fmt.Errorf("unable to get REST mapping for %s/%s", ref.APIVersion, ref.Kind)
	}
	if err != nil {
		return kept{}, err
	}
	return kept{mapping.Resource, mapping.Scope.Name() == meta.RESTScopeNameNamespace}, nil
}

func (c *Controller) invalid(n Node, ref metav1.OwnerReference) {
	c.parts.Events.Eventf(&v1.ObjectReference{
		Kind: n.Reference.Kind, APIVersion: n.Reference.APIVersion, Namespace: n.Namespace, Name: n.Reference.Name, UID: n.UID,
	}, v1.EventTypeWarning, "OwnerRefInvalidNamespace", "ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q",
		ref.APIVersion, ref.Kind, n.Namespace, ref.Name, ref.UID, n.Namespace)
}
