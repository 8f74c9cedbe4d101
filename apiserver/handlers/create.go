package handlers

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/apiserver/admission"
	"skiff/apiserver/resources"
	"skiff/apiserver/store"
)

// generateTries is how often a generated name that is taken is made anew (KEP-4420).
const generateTries = 8

func (a *API) create(w http.ResponseWriter, r *http.Request, t *Target, s *resources.Strategy) {
	o, err := createOptions(r)
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
	t.manager = managerName(o.FieldManager, r)
	it, err := a.Create(r.Context(), t, obj, o)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	a.writeItem(w, r, t, http.StatusCreated, it)
}

// Create stores a new object of the hub type with everything that a request
// goes through. obj is consumed.
func (a *API) Create(ctx context.Context, t *Target, obj runtime.Object, o *metav1.CreateOptions) (*store.Item, error) {
	s := &t.Resource.Strategy
	m, err := metaOf(obj)
	if err != nil {
		return nil, err
	}
	wipeMeta(m)
	if err := ensureNamespace(t, m); err != nil {
		return nil, err
	}
	dedupOwners(ctx, m, ownersTwice)
	o.TypeMeta = metav1.TypeMeta{Kind: "CreateOptions", APIVersion: "meta.k8s.io/v1"}
	generated := m.GetName() == "" && m.GetGenerateName() != ""
	for try := 1; ; try++ {
		attempt := obj
		if generated && try < generateTries {
			attempt = obj.DeepCopyObject()
		}
		it, err := a.createOnce(ctx, t, s, attempt, o)
		if !apierrors.IsAlreadyExists(err) {
			return it, err
		}
		if generated && try < generateTries {
			continue
		}
		return nil, a.taken(ctx, t, attempt, err, generated)
	}
}

// taken is the error of a name that exists.
func (a *API) taken(ctx context.Context, t *Target, obj runtime.Object, err error, generated bool) error {
	m, merr := metaOf(obj)
	if merr != nil {
		return err
	}
	if generated {
		return apierrors.NewGenerateNameConflict(t.GR(), m.GetName(), 1)
	}
	it, gerr := t.Store.Get(ctx, m.GetNamespace(), m.GetName(), "0")
	if gerr != nil {
		return err
	}
	cur, gerr := it.Object()
	if gerr != nil {
		return err
	}
	var status *apierrors.StatusError
	if cm, merr := metaOf(cur); merr == nil && cm.GetDeletionTimestamp() != nil && errors.As(err, &status) {
		text := status.ErrStatus
		text.Message = "object is being deleted: " + text.Message
		return &apierrors.StatusError{ErrStatus: text}
	}
	return err
}

func (a *API) createOnce(ctx context.Context, t *Target, s *resources.Strategy, obj runtime.Object, o *metav1.CreateOptions) (*store.Item, error) {
	m, err := metaOf(obj)
	if err != nil {
		return nil, err
	}
	// An object that was read from somewhere would not be that version.
	version, verr := strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	read := verr == nil && version != 0
	// Managed fields see what the client sent, not what admission makes of it.
	obj, err = a.track(t, s, t.emptyHub(), obj, cmp.Or(o.FieldManager, t.manager))
	if err != nil {
		return nil, err
	}
	obj, at, err := a.made(ctx, t, s, obj, o)
	if err != nil {
		return nil, err
	}
	if m, err = metaOf(obj); err != nil {
		undo(ctx, at)
		return nil, err
	}
	if at.DryRun {
		return a.dryCreate(ctx, t, m, obj)
	}
	if read {
		// As upstream's store, which says so without a reason.
		undo(ctx, at)
		return nil, errors.New("resourceVersion should not be set on objects to be created")
	}
	it, err := t.Store.Create(ctx, m.GetNamespace(), m.GetName(), obj)
	if err != nil {
		undo(ctx, at)
		return nil, err
	}
	return it, nil
}

// made takes a new object through admission, preparation and validation. What
// plugins hold for it is let go when any of these fails.
func (a *API) made(ctx context.Context, t *Target, s *resources.Strategy, obj runtime.Object, o *metav1.CreateOptions) (_ runtime.Object, _ *admission.Attributes, err error) {
	m, err := metaOf(obj)
	if err != nil {
		return nil, nil, err
	}
	own := *t
	own.Name = m.GetName()
	chain := a.cfg.Admission()
	at := a.attributes(ctx, &own, admission.Create, obj, nil, o, dryRun(o.DryRun))
	held := at
	defer func() {
		if err != nil {
			undo(ctx, held)
		}
	}()
	if obj, m, err = mutated(ctx, chain, at); err != nil {
		return nil, nil, err
	}
	if err = ensureNamespace(&own, m); err != nil {
		return nil, nil, err
	}
	a.prepareCreate(ctx, s, obj, m)
	at.Name = m.GetName()
	if err := validateCreate(ctx, t, s, obj, m); err != nil {
		return nil, nil, err
	}
	warn(ctx, s, obj, nil)
	if err := chain.Validate(ctx, at); err != nil {
		return nil, nil, err
	}
	return obj, at, nil
}

// emptyHub is an empty hub object: what was before a create.
// Groups that share a store share its hub.
func (t *Target) emptyHub() runtime.Object {
	if t.Store != nil {
		return hubVersion(t.Store.Resource()).New()
	}
	return hubVersion(t.Resource).New()
}

func hubVersion(r *resources.Resource) *resources.Version {
	for i := range r.Versions {
		if v := &r.Versions[i]; v.Name == r.Hub {
			return v
		}
	}
	return &r.Versions[0]
}

// dryCreate looks whether the name is free, and stores nothing.
func (a *API) dryCreate(ctx context.Context, t *Target, m metav1.Object, obj runtime.Object) (*store.Item, error) {
	if _, err := t.Store.Get(ctx, m.GetNamespace(), m.GetName(), ""); err == nil {
		return nil, apierrors.NewAlreadyExists(t.GR(), m.GetName())
	} else if !apierrors.IsNotFound(err) {
		return nil, err
	}
	return t.Store.Unsaved(m.GetNamespace(), m.GetName(), obj, 0)
}

// undo tells plugins that hold something for the write (quota, addresses) that
// it did not happen.
func undo(ctx context.Context, at *admission.Attributes) {
	ctx = context.WithoutCancel(ctx)
	for _, f := range at.Undo {
		f(ctx)
	}
	at.Undo = nil
}
