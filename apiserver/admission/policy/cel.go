package policy

import (
	"context"
	"errors"
	"fmt"
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

// Compiler compiles each text once.
type Compiler struct {
	env *cel.Env

	mu       sync.Mutex
	programs map[string]cel.Program
}

// NewCompiler makes a Compiler that knows the variables of policies, and extra.
func NewCompiler(extra ...cel.EnvOption) (*Compiler, error) {
	set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: append([]cel.EnvOption{
			cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType), cel.Variable("request", cel.DynType),
			cel.Variable("params", cel.DynType), cel.Variable("namespaceObject", cel.DynType), cel.Variable("variables", cel.DynType),
			cel.Variable("authorizer", library.AuthorizerType), cel.Variable("authorizer.requestResource", library.ResourceCheckType),
		}, extra...)})
	if err != nil {
		return nil, fmt.Errorf("making the CEL environment: %w", err)
	}
	return &Compiler{env: set.StoredExpressionsEnv(), programs: map[string]cel.Program{}}, nil
}

func (c *Compiler) program(text string) (cel.Program, error) {
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

// Eval evaluates a text.
func (c *Compiler) Eval(ctx context.Context, text string, values map[string]any) (ref.Val, error) {
	p, err := c.program(text)
	if err != nil {
		return nil, err
	}
	out, _, err := p.ContextEval(ctx, values)
	return out, err
}

// Variables evaluates a policy's variables when they are asked for, once each.
func (c *Compiler) Variables(ctx context.Context, list []arv1.Variable, values map[string]any) ref.Val {
	m := lazy.NewMapValue(apiservercel.NewObjectType("kubernetes.variables", nil))
	for _, v := range list {
		m.Append(v.Name, func(*lazy.MapValue) ref.Val {
			out, err := c.Eval(ctx, v.Expression, values)
			if err != nil {
				return types.NewErr("composited variable %q fails to evaluate: %v", v.Name, err)
			}
			return out
		})
	}
	return m
}

// Holds evaluates a text that says yes or no.
func (c *Compiler) Holds(ctx context.Context, text string, values map[string]any) (bool, error) {
	out, err := c.Eval(ctx, text, values)
	if err != nil {
		return false, err
	}
	b, ok := out.Value().(bool)
	if !ok {
		return false, errors.New("the result is no bool")
	}
	return b, nil
}
