package handlers

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/admission"
	"skiff/apiserver/request"
	"skiff/apiserver/resources"
	"skiff/apiserver/store"
)

func (a *API) update(w http.ResponseWriter, r *http.Request, t *Target, s *resources.Strategy) {
	o, err := updateOptions(r)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	mode, err := fieldValidationOf(o.FieldValidation)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	obj, err := a.decodeBody(r, t, mode)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	m, err := metaOf(obj)
	if err == nil {
		err = ensureNamespace(t, m)
	}
	if err == nil {
		err = checkName(t, m)
	}
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	dedupOwners(r.Context(), m, ownersTwice)
	t.manager = managerName(o.FieldManager, r)
	it, created, err := a.Update(r.Context(), t, s, o, func(context.Context, runtime.Object) (runtime.Object, error) {
		return obj.DeepCopyObject(), nil
	})
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

// Update changes an object with everything that a request goes through. next
// makes the wished object, of the hub type, from the current one, which is nil
// where the object does not exist and may be made by an update.
func (a *API) Update(ctx context.Context, t *Target, s *resources.Strategy, o *metav1.UpdateOptions, next store.Mutate) (*store.Item, bool, error) {
	o.TypeMeta = metav1.TypeMeta{Kind: "UpdateOptions", APIVersion: "meta.k8s.io/v1"}
	return a.write(ctx, t, s, change{
		options: o, dry: dryRun(o.DryRun), manager: cmp.Or(o.FieldManager, t.manager), next: next, create: s.AllowCreateOnUpdate && t.Subresource == "",
	})
}

// change is an update or a patch.
type change struct {
	options runtime.Object
	dry     bool
	manager string
	// next makes the wished object. It has done its own field management when
	// tracked is set (apply).
	next    store.Mutate
	tracked bool
	// create lets a missing object be made.
	create bool
	// patch: a UID that differs is a change to the object, not a precondition.
	patch bool
}

func (a *API) write(ctx context.Context, t *Target, s *resources.Strategy, c change) (*store.Item, bool, error) {
	var instead *store.Item
	var held *admission.Attributes
	dryCreated := false
	release := func(ctx context.Context) {
		if held != nil {
			undo(ctx, held)
			held = nil
		}
	}
	it, created, err := t.Store.Update(ctx, t.Namespace, t.Name, c.create, func(ctx context.Context, cur runtime.Object) (runtime.Object, error) {
		release(ctx)
		instead = nil
		rev, ends := int64(0), false
		if cur != nil {
			var err error
			if rev, err = revision(cur); err != nil {
				return nil, err
			}
			if ends, err = endsByUpdate(cur); err != nil {
				return nil, err
			}
		}
		dryCreated = cur == nil
		obj, at, err := a.changed(ctx, t, s, &c, cur)
		if err != nil {
			return nil, err
		}
		held = at
		m, err := metaOf(obj)
		if err != nil {
			return nil, err
		}
		// The last finalizer of an object that is being deleted has gone: the
		// answer shows it, the store does not see it any more.
		ends = ends && len(m.GetFinalizers()) == 0 && specFinalizers(obj) == 0
		if !c.dry && !ends {
			return obj, nil
		}
		if instead, err = t.Store.Unsaved(t.Namespace, t.Name, obj, rev); err != nil {
			return nil, err
		}
		if c.dry {
			return nil, nil
		}
		return nil, store.Remove
	})
	if err != nil {
		release(ctx)
		return nil, false, err
	}
	if instead != nil {
		return instead, c.dry && dryCreated, nil
	}
	return it, created, nil
}

// endsByUpdate tells whether the object goes once it has no finalizers.
func endsByUpdate(cur runtime.Object) (bool, error) {
	m, err := metaOf(cur)
	if err != nil || m.GetDeletionTimestamp() == nil {
		return false, err
	}
	grace := m.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0, nil
}

// changed is the object to store.
func (a *API) changed(ctx context.Context, t *Target, s *resources.Strategy, c *change, cur runtime.Object) (_ runtime.Object, _ *admission.Attributes, err error) {
	var old runtime.Object
	if cur != nil {
		old = cur.DeepCopyObject()
	}
	obj, err := c.next(ctx, cur)
	if err != nil {
		return nil, nil, err
	}
	m, err := metaOf(obj)
	if err != nil {
		return nil, nil, err
	}
	if old == nil && c.tracked && m.GetUID() != "" {
		return nil, nil, apierrors.NewConflict(t.GR(), t.Name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", m.GetUID()))
	}
	if err := checkName(t, m); err != nil {
		return nil, nil, err
	}
	if err := ensureNamespace(t, m); err != nil {
		return nil, nil, err
	}
	if old == nil {
		return a.madeByUpdate(ctx, t, s, c, obj)
	}
	om, err := metaOf(old)
	if err != nil {
		return nil, nil, err
	}
	if uid := m.GetUID(); uid != "" && !c.patch {
		if err := t.Store.Check(old, t.Store.Key(t.Namespace, t.Name), t.Name, store.Preconditions{UID: &uid}); err != nil {
			return nil, nil, err
		}
	}
	if err := checkVersion(t, s, m, om); err != nil {
		return nil, nil, err
	}
	if !c.tracked {
		if obj, err = a.track(t, s, old, obj, c.manager); err != nil {
			return nil, nil, err
		}
	}
	chain := a.cfg.Admission()
	at := a.attributes(ctx, t, admission.Update, obj, old, c.options, c.dry)
	defer func() {
		if err != nil {
			undo(ctx, at)
		}
	}()
	if t.Shown != nil {
		err = t.Shown.admit(ctx, chain, at)
	} else {
		obj, m, err = mutated(ctx, chain, at)
	}
	if err != nil {
		return nil, nil, err
	}
	prepareUpdate(ctx, s, obj, old, m, om)
	if err := validateUpdate(ctx, t, s, obj, old, m, om); err != nil {
		return nil, nil, err
	}
	warn(ctx, s, obj, old)
	// A write that changes nothing but the times of managedFields is none.
	sameButManagedTimes(obj, old)
	if err := chain.Validate(ctx, at); err != nil {
		return nil, nil, err
	}
	return obj, at, nil
}

// checkVersion is the optimistic lock.
func checkVersion(t *Target, s *resources.Strategy, m, old metav1.Object) error {
	switch rv := m.GetResourceVersion(); {
	case rv == "" || rv == "0":
		if !s.AllowUnconditionalUpdate && !t.Resource.Strategy.AllowUnconditionalUpdate && !t.Version.AllowUnconditionalUpdate {
			// Upstream puts the resource where the kind belongs.
			return apierrors.NewInvalid(schema.GroupKind{Group: t.Resource.Group, Kind: t.Resource.Plural}, t.Name, field.ErrorList{
				field.Invalid(field.NewPath("metadata", "resourceVersion"), uint64(0), "must be specified for an update")})
		}
		m.SetResourceVersion(old.GetResourceVersion())
	case rv != old.GetResourceVersion():
		return modified(t)
	}
	return nil
}

// madeByUpdate is an object that an update or apply makes.
func (a *API) madeByUpdate(ctx context.Context, t *Target, s *resources.Strategy, c *change, obj runtime.Object) (runtime.Object, *admission.Attributes, error) {
	m, err := metaOf(obj)
	if err != nil {
		return nil, nil, err
	}
	if uid := m.GetUID(); uid != "" {
		return nil, nil, apierrors.NewConflict(t.GR(), t.Name, fmt.Errorf("StorageError: invalid object, Code: 4, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: %s, UID in object meta: ", t.Store.Key(t.Namespace, t.Name), uid))
	}
	if err := a.MayCreate(ctx, t); err != nil {
		return nil, nil, err
	}
	if !c.tracked {
		if obj, err = a.track(t, s, t.emptyHub(), obj, c.manager); err != nil {
			return nil, nil, err
		}
	}
	wipeMeta(m)
	o := &metav1.CreateOptions{TypeMeta: metav1.TypeMeta{Kind: "CreateOptions", APIVersion: "meta.k8s.io/v1"}, FieldManager: asked(c.options)}
	if c.dry {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return a.made(ctx, t, s, obj, o)
}

// asked is the manager that the options of a request name.
func asked(options runtime.Object) string {
	switch o := options.(type) {
	case *metav1.UpdateOptions:
		return o.FieldManager
	case *metav1.PatchOptions:
		return o.FieldManager
	}
	return ""
}

// MayCreate asks for the right to create where the verb was another.
func (a *API) MayCreate(ctx context.Context, t *Target) error {
	if a.cfg.Authorizer == nil {
		return nil
	}
	info := request.InfoFrom(ctx)
	user := request.UserFrom(ctx)
	if info == nil || user == nil {
		return nil
	}
	attributes := authorizer.AttributesRecord{
		User: user, Verb: "create", Namespace: t.Namespace, APIGroup: t.Resource.Group, APIVersion: t.Version.Name,
		Resource: t.Resource.Plural, Subresource: t.Subresource, Name: t.Name, ResourceRequest: true, Path: info.Path,
	}
	decision, reason, err := a.cfg.Authorizer.Authorize(ctx, attributes)
	if decision == authorizer.DecisionAllow {
		return nil
	}
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	return Forbidden(attributes, reason)
}

func revision(obj runtime.Object) (int64, error) {
	m, err := metaOf(obj)
	if err != nil {
		return 0, err
	}
	var rev int64
	_, err = fmt.Sscan(m.GetResourceVersion(), &rev)
	return rev, err
}
