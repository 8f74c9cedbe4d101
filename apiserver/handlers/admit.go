package handlers

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/admission"
	"skiff/apiserver/request"
)

// attributes are what admission sees of a write.
func (a *API) attributes(ctx context.Context, t *Target, op admission.Operation, obj, old, options runtime.Object, dry bool) *admission.Attributes {
	return &admission.Attributes{
		Operation: op, Kind: t.GVK(), Resource: t.GVR(), Subresource: t.Subresource,
		Namespace: t.Namespace, Name: t.Name, Object: obj, OldObject: old, Options: options, DryRun: dry,
		User:     request.UserFrom(ctx),
		Convert:  t.convert,
		Warn:     func(text string) { request.Warn(ctx, text) },
		Annotate: func(key, value string) { request.Annotate(ctx, key, value) },
	}
}

// convert gives an object of the hub in any version, for webhooks.
func (t *Target) convert(obj runtime.Object, to schema.GroupVersionKind) (runtime.Object, error) {
	return versions{t.Resource}.ConvertToVersion(obj, to.GroupVersion())
}

// Connect admits a connect request (exec, attach, port-forward, proxy).
func (a *API) Connect(ctx context.Context, t *Target, options runtime.Object) error {
	chain := a.cfg.Admission()
	at := a.attributes(ctx, t, admission.Connect, options, nil, nil, false)
	if err := chain.Admit(ctx, at); err != nil {
		return err
	}
	return chain.Validate(ctx, at)
}
