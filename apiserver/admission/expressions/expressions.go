// Package expressions compiles the CEL of webhooks and admission policies, for
// those who evaluate it and for the validation that refuses what does not compile.
package expressions

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/metrics"
	"k8s.io/apiserver/pkg/cel/mutation"
)

const (
	// costLimit bounds the evaluation of one expression.
	costLimit = 10_000_000
	// maxPrograms bounds the memory of compiled texts.
	maxPrograms = 5000
)

// Compiler compiles each text once.
type Compiler struct {
	env *cel.Env

	mu       sync.Mutex
	programs map[string]cel.Program
}

// New makes a Compiler of expressions over variables.
func New(variables ...cel.EnvOption) (*Compiler, error) {
	set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: variables})
	if err != nil {
		return nil, fmt.Errorf("making the CEL environment: %w", err)
	}
	return &Compiler{env: set.StoredExpressionsEnv(), programs: map[string]cel.Program{}}, nil
}

// Webhook are the variables of a webhook's match conditions.
func Webhook() []cel.EnvOption {
	return []cel.EnvOption{
		cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType), cel.Variable("request", cel.DynType),
		cel.Variable("authorizer", library.AuthorizerType), cel.Variable("authorizer.requestResource", library.ResourceCheckType),
	}
}

// Policy are the variables of a policy's expressions.
func Policy() []cel.EnvOption {
	return append(Webhook(), cel.Variable("namespaceObject", cel.DynType), cel.Variable("params", cel.DynType), cel.Variable("variables", cel.DynType))
}

// Mutations are the variables of a policy's mutations, with the types that they make.
func Mutations() []cel.EnvOption {
	return append(Policy(), common.ResolverEnvOption(&mutation.DynamicTypeResolver{}), environment.UnversionedLib(library.JSONPatch))
}

// program is a compiled text.
func (c *Compiler) program(text string) (cel.Program, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.programs[text]; ok {
		return p, nil
	}
	began := time.Now()
	defer func() { metrics.Metrics.ObserveCompilation(time.Since(began)) }()
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
	began := time.Now()
	out, _, err := p.ContextEval(ctx, values)
	metrics.Metrics.ObserveEvaluation(time.Since(began))
	return out, err
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
