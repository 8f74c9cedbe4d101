package policy

import (
	"context"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	arv1 "k8s.io/api/admissionregistration/v1"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/lazy"
)

// Variables evaluates a policy's variables when they are asked for, once each.
func (e *Engine) Variables(ctx context.Context, list []arv1.Variable, values map[string]any) ref.Val {
	m := lazy.NewMapValue(apiservercel.NewObjectType("kubernetes.variables", nil))
	for _, v := range list {
		m.Append(v.Name, func(*lazy.MapValue) ref.Val {
			out, err := e.Eval(ctx, v.Expression, values)
			if err != nil {
				return types.NewErr("composited variable %q fails to evaluate: %v", v.Name, err)
			}
			return out
		})
	}
	return m
}
