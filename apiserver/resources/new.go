package resources

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Empty makes an empty object of a Go type; it is a Version's New or NewList.
func Empty[T any, P interface {
	*T
	runtime.Object
}]() runtime.Object {
	return P(new(T))
}

// SpecStatus splits a strategy over the two endpoints of a kind that has a
// specification and a status: the main one never writes the status, and the
// status one never the specification. s gives all the rest of the main
// endpoint; its Prepare funcs run after the split's.
func SpecStatus[T, Sp, St any, P Object[T]](s TypedStrategy[T, P], spec func(P) *Sp, status func(P) *St) (main, view TypedStrategy[T, P]) {
	main = s
	main.ResetFields = append([]string{"status"}, s.ResetFields...)
	main.PrepareForCreate = func(ctx context.Context, obj P) {
		var none St
		*status(obj) = none
		if s.PrepareForCreate != nil {
			s.PrepareForCreate(ctx, obj)
		}
	}
	main.PrepareForUpdate = func(ctx context.Context, obj, old P) {
		*status(obj) = *status(old)
		if s.PrepareForUpdate != nil {
			s.PrepareForUpdate(ctx, obj, old)
		}
	}
	view = TypedStrategy[T, P]{
		Generation:               s.Generation,
		AllowUnconditionalUpdate: s.AllowUnconditionalUpdate,
		NameValidation:           s.NameValidation,
		Metadata:                 s.Metadata,
		ResetFields:              []string{"spec"},
		PrepareForUpdate:         func(_ context.Context, obj, old P) { *spec(obj) = *spec(old) },
	}
	return main, view
}

// KeepMeta makes a status endpoint leave labels, annotations, finalizers and
// owner references alone too.
func KeepMeta[T any, P Object[T]](view TypedStrategy[T, P]) TypedStrategy[T, P] {
	inner := view.PrepareForUpdate
	view.ResetFields = append([]string{"metadata.deletionTimestamp", "metadata.ownerReferences",
		"metadata.labels", "metadata.annotations", "metadata.finalizers"}, view.ResetFields...)
	view.PrepareForUpdate = func(ctx context.Context, obj, old P) {
		inner(ctx, obj, old)
		metav1.ResetObjectMetaForStatus(obj, old)
	}
	return view
}

// Scale is the subresource that kinds with replicas have.
func Scale() Subresource {
	return Subresource{Group: "autoscaling", Version: "v1", Kind: "Scale", Verbs: StatusVerbs, Connect: ConnectScale}
}

// Kind is the untyped part of a kind of a group: its storage path is the one
// that upstream uses for groups, GROUP/PLURAL without the ".k8s.io" rules of old
// kinds, which set Path themselves.
func Kind(group, kind, plural string, namespaced bool, short ...string) Resource {
	return Resource{Group: group, Kind: kind, Plural: plural, ShortNames: short, Namespaced: namespaced, Path: plural, Hub: "v1"}
}

// StatusView adds the status subresource to a strategy of a kind whose other
// part is the specification.
func StatusView[T any, P Object[T]](view TypedStrategy[T, P]) map[string]TypedStrategy[T, P] {
	return map[string]TypedStrategy[T, P]{"status": view}
}

// Review is a kind that is answered and never stored.
func Review[T any, P Object[T]](group, kind, plural string, namespaced bool, c Connector) Resource {
	r := Kind(group, kind, plural, namespaced)
	r.Verbs = CreateOnly
	r.Virtual = c
	r.Versions = []Version{HubVersion[T, P]("v1", nil, nil)}
	return Declare(Spec[T, P]{Resource: r})
}
