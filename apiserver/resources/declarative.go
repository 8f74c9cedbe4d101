package resources

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Rules is the validation that k8s.io/api ships for a type, generated from the
// tags of its fields.
type Rules[T any] func(ctx context.Context, op operation.Operation, at *field.Path, obj, old *T) field.ErrorList

// Declared runs shipped rules; old is nil on create. Rules that are marked alpha
// are left out: no server enforces them yet. off names the features that the rules
// ask about, none of which is on.
func Declared[T any](ctx context.Context, rules Rules[T], at *field.Path, obj, old *T, off ...string) field.ErrorList {
	op := operation.Operation{Type: operation.Create, Options: map[string]bool{}}
	for _, name := range off {
		op.Options[name] = false
	}
	if old != nil {
		op.Type = operation.Update
	}
	return slices.DeleteFunc(rules(ctx, op, at, obj, old), (*field.Error).IsAlpha)
}

// Checked gives a strategy one rule for both create, where old is nil, and update.
func Checked[T any, P Object[T]](s TypedStrategy[T, P], rule func(ctx context.Context, o, old P) field.ErrorList) TypedStrategy[T, P] {
	s.Validate = func(ctx context.Context, o P) field.ErrorList { return rule(ctx, o, nil) }
	s.ValidateUpdate = rule
	return s
}
