package handlers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	extensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/admission"
	"skiff/apiserver/resources"
	"skiff/apiserver/store"
)

func (a *API) delete(w http.ResponseWriter, r *http.Request, t *Target) {
	o, err := a.deleteOptions(r)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	if ignore := o.IgnoreStoreReadErrorWithClusterBreakingPotential; ignore != nil && *ignore {
		if err := a.purge(r.Context(), t); err != nil {
			a.WriteError(w, r, err)
			return
		}
		WriteStatus(w, r, http.StatusOK, &metav1.Status{Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{Name: t.Name, Group: t.Resource.Group, Kind: t.Resource.Plural}})
		return
	}
	it, gone, err := a.Delete(r.Context(), t, o)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	if gone && !t.returnsDeleted() {
		a.writeDeleted(w, r, t, it)
		return
	}
	code := http.StatusOK
	if !gone && o.OrphanDependents != nil && !*o.OrphanDependents {
		code = http.StatusAccepted
	}
	a.writeItem(w, r, t, code, it)
}

// returnsDeleted tells whether a delete answers with the object, not with a Status.
func (t *Target) returnsDeleted() bool {
	return t.Resource.ReturnDeleted || resources.ReturnsDeleted(t.GVK())
}

func (a *API) writeDeleted(w http.ResponseWriter, r *http.Request, t *Target, it *store.Item) {
	status := &metav1.Status{Status: metav1.StatusSuccess, Details: &metav1.StatusDetails{Name: t.Name, Group: t.Resource.Group, Kind: t.Resource.Plural}}
	if obj, err := it.Object(); err == nil {
		if m, err := metaOf(obj); err == nil {
			status.Details.UID = m.GetUID()
		}
	}
	WriteStatus(w, r, http.StatusOK, status)
}

// Delete removes an object, or marks it as being deleted where it ends gracefully
// or has finalizers. gone tells whether it is removed.
func (a *API) Delete(ctx context.Context, t *Target, o *metav1.DeleteOptions) (it *store.Item, gone bool, err error) {
	o.TypeMeta = metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "meta.k8s.io/v1"}
	dry := dryRun(o.DryRun)
	var plan deletion
	var instead *store.Item
	it, _, err = t.Store.Update(ctx, t.Namespace, t.Name, false, func(ctx context.Context, cur runtime.Object) (runtime.Object, error) {
		m, err := metaOf(cur)
		if err != nil {
			return nil, err
		}
		if err := checkPreconditions(t, m, o.Preconditions); err != nil {
			return nil, err
		}
		rev, err := revision(cur)
		if err != nil {
			return nil, err
		}
		chain := a.cfg.Admission()
		var old runtime.Object
		if chain.Handles(admission.Delete) {
			old = cur.DeepCopyObject()
		}
		plan = planDelete(ctx, &t.Resource.Strategy, cur, m, o.DeepCopy(), a.cfg.Now())
		if plan.nothing {
			return nil, nil
		}
		if old != nil {
			at := a.attributes(ctx, t, admission.Delete, nil, old, o, dry)
			if err := chain.Admit(ctx, at); err != nil {
				return nil, err
			}
			if err := chain.Validate(ctx, at); err != nil {
				return nil, err
			}
		}
		switch {
		case dry:
			instead, err = t.Store.Unsaved(t.Namespace, t.Name, cur, rev)
			return nil, err
		case plan.now:
			return nil, store.Remove
		}
		return cur, nil
	})
	switch {
	case err != nil:
		return nil, false, err
	case dry && instead != nil:
		return instead, plan.now || plan.thenRemove, nil
	case !plan.thenRemove:
		return it, plan.now, nil
	}
	last, err := a.remove(ctx, t, it)
	return ended(it, last, err)
}

// ended is what the removal of a marked object came to. Who watches may have removed
// it as soon as it was marked, as kubelets do with mirror pods, and there may be
// another of its name by now: the one that was to go is gone all the same.
func ended(marked, last *store.Item, err error) (it *store.Item, gone bool, _ error) {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return marked, true, nil
	}
	return last, err == nil, err
}

// checkPreconditions fails early, with the words of a delete.
func checkPreconditions(t *Target, m metav1.Object, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	gr := schema.GroupResource{Group: t.Resource.Group, Resource: t.Resource.Kind}
	if p.UID != nil && *p.UID != m.GetUID() {
		return apierrors.NewConflict(gr, m.GetName(), fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, m.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != m.GetResourceVersion() {
		return apierrors.NewConflict(gr, m.GetName(), fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, m.GetResourceVersion()))
	}
	return nil
}

// deletion is what a delete does to an object.
type deletion struct {
	// now: it has nothing to wait for. nothing: it is being deleted already.
	now, nothing bool
	// thenRemove: it is removed right after it was marked.
	thenRemove bool
}

// planDelete decides, and marks the object where it is to be updated.
func planDelete(ctx context.Context, s *resources.Strategy, obj runtime.Object, m metav1.Object, o *metav1.DeleteOptions, now time.Time) deletion {
	graceful, pending := beforeDelete(ctx, s, obj, m, o, now)
	if pending {
		return deletion{nothing: true}
	}
	m.SetFinalizers(gcFinalizers(m.GetFinalizers(), o, s.DefaultPropagation))
	waits := len(m.GetFinalizers()) > 0 || specFinalizers(obj) > 0
	switch {
	case !graceful && !waits:
		return deletion{now: true}
	case !graceful:
		markDeleting(obj, m, now)
		return deletion{}
	case waits || *o.GracePeriodSeconds > 0:
		return deletion{}
	}
	return deletion{thenRemove: true}
}

// beforeDelete decides on grace, as upstream: the first delete sets it, a later
// one can only shorten it. graceful leaves o.GracePeriodSeconds set.
func beforeDelete(ctx context.Context, s *resources.Strategy, obj runtime.Object, m metav1.Object, o *metav1.DeleteOptions, now time.Time) (graceful, pending bool) {
	one := int64(1)
	if o.GracePeriodSeconds != nil && *o.GracePeriodSeconds < 0 {
		o.GracePeriodSeconds = &one
	}
	if old := m.GetDeletionGracePeriodSeconds(); old != nil && *old < 0 {
		m.SetDeletionGracePeriodSeconds(&one)
	}
	if s.CheckGracefulDelete == nil {
		return false, false
	}
	now = now.Truncate(time.Second)
	if m.GetDeletionTimestamp() != nil {
		old := m.GetDeletionGracePeriodSeconds()
		if old == nil || *old == 0 {
			// Marked before, and the removal did not come about.
			return false, false
		}
		if o.GracePeriodSeconds == nil || *o.GracePeriodSeconds >= *old {
			return false, true
		}
		period := *o.GracePeriodSeconds
		at := m.GetDeletionTimestamp().Add(time.Duration(period-*old) * time.Second)
		if at.Before(now) {
			at = now
			if period != 0 {
				period = 1
			}
		}
		m.SetDeletionTimestamp(&metav1.Time{Time: at})
		m.SetDeletionGracePeriodSeconds(&period)
		return true, false
	}
	if !s.CheckGracefulDelete(ctx, obj, o) || o.GracePeriodSeconds == nil {
		return false, false
	}
	period := *o.GracePeriodSeconds
	m.SetDeletionTimestamp(&metav1.Time{Time: now.Add(time.Duration(period) * time.Second)})
	m.SetDeletionGracePeriodSeconds(&period)
	if m.GetGeneration() > 0 {
		m.SetGeneration(m.GetGeneration() + 1)
	}
	return true, false
}

// markDeleting marks an object that waits for its finalizers alone.
func markDeleting(obj runtime.Object, m metav1.Object, now time.Time) {
	now = now.Truncate(time.Second)
	old := m.GetDeletionTimestamp()
	if _, ok := obj.(*extensionsv1.CustomResourceDefinition); ok {
		if old == nil {
			m.SetDeletionTimestamp(&metav1.Time{Time: now})
		}
		return // with neither a period nor another generation
	}
	if old == nil && m.GetGeneration() > 0 {
		m.SetGeneration(m.GetGeneration() + 1)
	}
	if old == nil || old.After(now) {
		m.SetDeletionTimestamp(&metav1.Time{Time: now})
	}
	if ns, ok := obj.(*corev1.Namespace); ok {
		ns.Status.Phase = corev1.NamespaceTerminating
		return
	}
	var zero int64
	m.SetDeletionGracePeriodSeconds(&zero)
}

// specFinalizers counts the finalizers that only namespaces have.
func specFinalizers(obj runtime.Object) int {
	if ns, ok := obj.(*corev1.Namespace); ok {
		return len(ns.Spec.Finalizers)
	}
	return 0
}

// gcFinalizers are the finalizers with those that tell the garbage collector
// what to do with dependents.
func gcFinalizers(have []string, o *metav1.DeleteOptions, def *metav1.DeletionPropagation) []string {
	orphan, foreground := slices.Contains(have, metav1.FinalizerOrphanDependents), slices.Contains(have, metav1.FinalizerDeleteDependents)
	switch {
	case o.OrphanDependents != nil: //nolint:staticcheck // old clients send it
		orphan, foreground = *o.OrphanDependents, false
	case o.PropagationPolicy != nil:
		orphan = *o.PropagationPolicy == metav1.DeletePropagationOrphan
		foreground = *o.PropagationPolicy == metav1.DeletePropagationForeground
	case !orphan && !foreground && def != nil:
		orphan = *def == metav1.DeletePropagationOrphan
		foreground = *def == metav1.DeletePropagationForeground
	}
	var out []string
	for _, f := range have {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			out = append(out, f)
		}
	}
	if orphan {
		out = append(out, metav1.FinalizerOrphanDependents)
	}
	if foreground {
		out = append(out, metav1.FinalizerDeleteDependents)
	}
	if len(out) == len(have) {
		same := true
		for _, f := range out {
			same = same && slices.Contains(have, f)
		}
		if same {
			return have
		}
	}
	return out
}

// remove takes the object out of the store if it is still the one that may go.
func (a *API) remove(ctx context.Context, t *Target, it *store.Item) (*store.Item, error) {
	obj, err := it.Object()
	if err != nil {
		return nil, err
	}
	m, err := metaOf(obj)
	if err != nil {
		return nil, err
	}
	uid := m.GetUID()
	return t.Store.Delete(ctx, m.GetNamespace(), m.GetName(), store.Preconditions{UID: &uid})
}
