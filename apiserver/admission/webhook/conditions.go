package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	arv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"

	"skiff/apiserver/admission"
)

// costLimit bounds the evaluation of one expression.
const costLimit = 10_000_000

// conditions evaluates match conditions. Programs are compiled once per text.
type conditions struct {
	auth authorizer.Authorizer
	env  *cel.Env

	mu       sync.Mutex
	programs map[string]cel.Program
}

// maxPrograms bounds the memory of compiled texts.
const maxPrograms = 2000

func newConditions(auth authorizer.Authorizer) (*conditions, error) {
	base := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	set, err := base.Extend(environment.VersionedOptions{IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: []cel.EnvOption{
		cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType), cel.Variable("request", cel.DynType),
		cel.Variable("authorizer", library.AuthorizerType),
	}})
	if err != nil {
		return nil, fmt.Errorf("making the CEL environment: %w", err)
	}
	return &conditions{auth: auth, env: set.StoredExpressionsEnv(), programs: map[string]cel.Program{}}, nil
}

func (c *conditions) program(text string) (cel.Program, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.programs[text]; ok {
		return p, nil
	}
	ast, iss := c.env.Compile(text)
	if iss.Err() != nil {
		return nil, iss.Err()
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

// match is true when all conditions hold. One that is false decides, even when another fails.
func (c *conditions) match(ctx context.Context, list []arv1.MatchCondition, a *admission.Attributes, values map[string]any) (bool, error) {
	values["authorizer"] = library.NewAuthorizerVal(a.User, c.auth)
	var errs []error
	for _, m := range list {
		p, err := c.program(m.Expression)
		if err != nil {
			errs = append(errs, fmt.Errorf("match condition %q: %w", m.Name, err))
			continue
		}
		out, _, err := p.ContextEval(ctx, values)
		if err != nil {
			errs = append(errs, fmt.Errorf("match condition %q: %w", m.Name, err))
			continue
		}
		if hold, ok := out.Value().(bool); !ok {
			errs = append(errs, fmt.Errorf("match condition %q: the result is no bool", m.Name))
		} else if !hold {
			return false, nil
		}
	}
	return len(errs) == 0, errors.Join(errs...)
}
