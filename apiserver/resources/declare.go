package resources

import (
	"context"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is a pointer to a hub type: *corev1.Pod is Object[corev1.Pod].
type Object[T any] interface {
	*T
	runtime.Object
	metav1.Object
}

// Spec is a Resource in terms of its hub type, so that a kind's own functions
// need no type assertions. Declare turns it into a Resource.
type Spec[T any, P Object[T]] struct {
	// Resource holds all that is not typed; Strategy, Row, SelectableFields and
	// Subresources of it are overwritten by the typed ones below where set.
	Resource
	Strategy         TypedStrategy[T, P]
	Row              func(obj P) []any
	SelectableFields map[string]func(obj P) string
	// Views are subresources that show the same object under a strategy of
	// their own; their verbs are StatusVerbs.
	Views map[string]TypedStrategy[T, P]
}

// TypedStrategy is Strategy for one hub type.
type TypedStrategy[T any, P Object[T]] struct {
	PrepareForCreate    func(ctx context.Context, obj P)
	PrepareForUpdate    func(ctx context.Context, obj, old P)
	Validate            func(ctx context.Context, obj P) field.ErrorList
	ValidateUpdate      func(ctx context.Context, obj, old P) field.ErrorList
	Warnings            func(ctx context.Context, obj, old P) []string
	GenerationChanged   func(obj, old P) bool
	CheckGracefulDelete func(ctx context.Context, obj P, opts *metav1.DeleteOptions) bool
	Decorate            func(obj P)

	// As in Strategy.
	Generation, AllowCreateOnUpdate, AllowUnconditionalUpdate bool
	NameValidation                                            func(name string, prefix bool) []string
	Metadata                                                  MetadataRules
	DefaultPropagation                                        *metav1.DeletionPropagation
	ResetFields                                               []string
}

// HubVersion is the Version for the hub type itself. def may be nil.
func HubVersion[T any, P Object[T]](name string, newList func() runtime.Object, def func(P)) Version {
	v := Version{
		Name:    name,
		New:     func() runtime.Object { return P(new(T)) },
		NewList: newList,
	}
	if def != nil {
		v.Default = func(obj runtime.Object) { def(obj.(P)) }
	}
	return v
}

// Declare makes the Resource of a Spec.
func Declare[T any, P Object[T]](s Spec[T, P]) Resource {
	r := s.Resource
	if r.ListKind == "" {
		r.ListKind = r.Kind + "List"
	}
	if r.Singular == "" {
		r.Singular = strings.ToLower(r.Kind)
	}
	if r.Verbs == nil {
		r.Verbs = AllVerbs
	}
	for i := range r.Versions {
		if v := &r.Versions[i]; v.Deprecated == "" && v.New != nil {
			v.Deprecated = deprecation(schema.GroupVersionKind{Group: r.Group, Version: v.Name, Kind: r.Kind}, v.New())
		}
	}
	r.Strategy = s.Strategy.erase()
	if s.Row != nil {
		r.Row = func(obj runtime.Object) []any { return s.Row(obj.(P)) }
	}
	if s.SelectableFields != nil {
		r.SelectableFields = make(map[string]func(runtime.Object) string, len(s.SelectableFields))
		for label, value := range s.SelectableFields {
			r.SelectableFields[label] = func(obj runtime.Object) string { return value(obj.(P)) }
		}
	}
	subs := make(map[string]Subresource, len(r.Subresources)+len(s.Views))
	for name, sub := range r.Subresources {
		subs[name] = sub
	}
	for name, view := range s.Views {
		strategy := view.erase()
		subs[name] = Subresource{Verbs: StatusVerbs, Strategy: &strategy}
	}
	r.Subresources = subs
	return r
}

func (t TypedStrategy[T, P]) erase() Strategy {
	s := Strategy{
		Generation:               t.Generation,
		AllowCreateOnUpdate:      t.AllowCreateOnUpdate,
		AllowUnconditionalUpdate: t.AllowUnconditionalUpdate,
		NameValidation:           t.NameValidation,
		Metadata:                 t.Metadata,
		DefaultPropagation:       t.DefaultPropagation,
		ResetFields:              t.ResetFields,
	}
	if f := t.PrepareForCreate; f != nil {
		s.PrepareForCreate = func(ctx context.Context, obj runtime.Object) { f(ctx, obj.(P)) }
	}
	if f := t.PrepareForUpdate; f != nil {
		s.PrepareForUpdate = func(ctx context.Context, obj, old runtime.Object) { f(ctx, obj.(P), old.(P)) }
	}
	if f := t.Validate; f != nil {
		s.Validate = func(ctx context.Context, obj runtime.Object) field.ErrorList { return f(ctx, obj.(P)) }
	}
	if f := t.ValidateUpdate; f != nil {
		s.ValidateUpdate = ratcheted(func(ctx context.Context, obj, old runtime.Object) field.ErrorList {
			return f(ctx, obj.(P), old.(P))
		})
	}
	if f := t.Warnings; f != nil {
		s.Warnings = func(ctx context.Context, obj, old runtime.Object) []string {
			if old == nil {
				return f(ctx, obj.(P), nil)
			}
			return f(ctx, obj.(P), old.(P))
		}
	}
	if f := t.GenerationChanged; f != nil {
		s.GenerationChanged = func(obj, old runtime.Object) bool { return f(obj.(P), old.(P)) }
	}
	if f := t.CheckGracefulDelete; f != nil {
		s.CheckGracefulDelete = func(ctx context.Context, obj runtime.Object, opts *metav1.DeleteOptions) bool {
			return f(ctx, obj.(P), opts)
		}
	}
	if f := t.Decorate; f != nil {
		s.Decorate = func(obj runtime.Object) { f(obj.(P)) }
	}
	return s
}
