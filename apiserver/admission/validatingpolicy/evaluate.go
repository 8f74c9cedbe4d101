package validatingpolicy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	arv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/version"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/lazy"
	"k8s.io/apiserver/pkg/cel/library"
)

// costLimit bounds the evaluation of one expression.
const costLimit = 10_000_000

// maxPrograms bounds the memory of compiled texts.
const maxPrograms = 5000

// compiler compiles each text once.
type compiler struct {
	env *cel.Env

	mu       sync.Mutex
	programs map[string]cel.Program
}

func newCompiler() (*compiler, error) {
	set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: []cel.EnvOption{
			cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType), cel.Variable("request", cel.DynType),
			cel.Variable("params", cel.DynType), cel.Variable("namespaceObject", cel.DynType), cel.Variable("variables", cel.DynType),
			cel.Variable("authorizer", library.AuthorizerType), cel.Variable("authorizer.requestResource", library.ResourceCheckType),
		}})
	if err != nil {
		return nil, fmt.Errorf("making the CEL environment: %w", err)
	}
	return &compiler{env: set.StoredExpressionsEnv(), programs: map[string]cel.Program{}}, nil
}

func (c *compiler) program(text string) (cel.Program, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.programs[text]; ok {
		return p, nil
	}
	ast, iss := c.env.Compile(text)
	if iss.Err() != nil {
		return nil, fmt.Errorf("compilation error: %w", iss.Err())
	}
	p, err := c.env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(costLimit), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, err
	}
	if len(c.programs) >= maxPrograms {
		clear(c.programs)
	}
	c.programs[text] = p
	return p, nil
}

func (c *compiler) eval(ctx context.Context, text string, values map[string]any) (ref.Val, error) {
	p, err := c.program(text)
	if err != nil {
		return nil, err
	}
	out, _, err := p.ContextEval(ctx, values)
	return out, err
}

// variables evaluates a policy's variables when they are asked for, once each.
func (c *compiler) variables(ctx context.Context, list []arv1.Variable, values map[string]any) ref.Val {
	m := lazy.NewMapValue(apiservercel.NewObjectType("kubernetes.variables", nil))
	for _, v := range list {
		m.Append(v.Name, func(*lazy.MapValue) ref.Val {
			out, err := c.eval(ctx, v.Expression, values)
			if err != nil {
				return types.NewErr("composited variable %q fails to evaluate: %v", v.Name, err)
			}
			return out
		})
	}
	return m
}

func (c *compiler) holds(ctx context.Context, text string, values map[string]any) (bool, error) {
	out, err := c.eval(ctx, text, values)
	if err != nil {
		return false, err
	}
	b, ok := out.Value().(bool)
	if !ok {
		return false, errors.New("the result is no bool")
	}
	return b, nil
}

// message is the text for a validation that failed.
func (c *compiler) message(ctx context.Context, v *arv1.Validation, values map[string]any) string {
	if v.MessageExpression != "" {
		if out, err := c.eval(ctx, v.MessageExpression, values); err == nil {
			if s, ok := out.Value().(string); ok && strings.TrimSpace(s) != "" && !strings.Contains(s, "\n") {
				return strings.TrimSpace(s)
			}
		}
	}
	if v.Message != "" {
		return strings.TrimSpace(v.Message)
	}
	return "failed expression: " + strings.TrimSpace(v.Expression)
}
