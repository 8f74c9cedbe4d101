package handlers

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/kubernetes/scheme"

	"skiff/apiserver/admission"
	"skiff/apiserver/request"
)

// attributes are what admission sees of a write.
func (a *API) attributes(ctx context.Context, t *Target, op admission.Operation, obj, old, options runtime.Object, dry bool) *admission.Attributes {
	return &admission.Attributes{
		Operation: op, Kind: t.GVK(), Resource: t.GVR(), Subresource: t.Subresource,
		Namespace: t.Namespace, Name: t.Name, Collected: t.collected, Object: obj, OldObject: old, Options: options, DryRun: dry,
		User:          request.UserFrom(ctx),
		Convert:       t.convert,
		Default:       t.defaultMade,
		TypeConverter: func() managedfields.TypeConverter { return a.bodyTypes(t) },
		Warn:          func(text string) { request.Warn(ctx, text) },
		Annotate:      func(key, value string) { request.Annotate(ctx, key, value) },
		AnnotateBody:  func(key string, value func() string) { request.AnnotateBody(ctx, key, value) },
	}
}

// mutated runs the plugins that change an object, and returns what they made of it.
func mutated(ctx context.Context, chain admission.Chain, at *admission.Attributes) (runtime.Object, metav1.Object, error) {
	if err := chain.Admit(ctx, at); err != nil {
		return nil, nil, err
	}
	if at.Object == nil {
		return nil, nil, apierrors.NewInternalError(errors.New("admission took the object away"))
	}
	obj := untype(at.Object)
	m, err := metaOf(obj)
	if err != nil {
		return nil, nil, err
	}
	dedupOwners(ctx, m, ownersTwiceAdmitted)
	return obj, m, nil
}

// defaultMade defaults an object of one of the resource's versions. The objects of
// subresources have no defaults.
func (t *Target) defaultMade(obj runtime.Object) {
	if obj.GetObjectKind().GroupVersionKind().Kind == t.Resource.Kind {
		versions{t.Resource}.Default(obj)
	}
}

// convert gives an object in any version, for webhooks, and takes what they made
// of it back. Objects without a type are of the hub.
func (t *Target) convert(obj runtime.Object, to schema.GroupVersionKind) (runtime.Object, error) {
	if !obj.GetObjectKind().GroupVersionKind().Empty() {
		var err error
		if obj, err = t.hubOf(obj); err != nil {
			return nil, err
		}
	}
	out := shallow(obj)
	if to.Group == t.Resource.Group {
		v, err := versions{t.Resource}.find(to.GroupVersion())
		if err != nil {
			return nil, err
		}
		if v.FromHub != nil {
			if out, err = v.FromHub(obj); err != nil {
				return nil, err
			}
		}
	}
	out.GetObjectKind().SetGroupVersionKind(to)
	return out, nil
}

// ofKind tells admission the kind of what is sent to a subresource, which is not its
// resource's.
func ofKind(at *admission.Attributes, obj runtime.Object) error {
	if at.Subresource == "" {
		return nil
	}
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	at.Kind = kinds[0]
	return nil
}

// Connect admits a connect request (exec, attach, port-forward, proxy).
func (a *API) Connect(ctx context.Context, t *Target, options runtime.Object) error {
	chain := a.cfg.Admission()
	at := a.attributes(ctx, t, admission.Connect, options, nil, nil, false)
	if err := ofKind(at, options); err != nil {
		return err
	}
	if err := chain.Admit(ctx, at); err != nil {
		return err
	}
	return chain.Validate(ctx, at)
}
