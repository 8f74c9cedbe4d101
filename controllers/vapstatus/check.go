package vapstatus

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	admission "k8s.io/api/admissionregistration/v1"
)

const (
	// maxCompilations bounds the work for one policy, which may hold thousands of
	// expressions.
	maxCompilations = 5000
	// maxWarnings bounds the bytes that are said of one policy: they are stored in it.
	maxWarnings = 64 << 10
)

// budget is how many texts may yet be compiled.
type budget int

func (b *budget) take() bool {
	*b--
	return *b >= 0
}

// check compiles the expressions of a policy's validations against each of the
// types and says which are wrong for which.
func check(ctx context.Context, p *admission.ValidatingAdmissionPolicy, of types) ([]admission.ExpressionWarning, error) {
	left := budget(maxCompilations)
	envs := make([]*cel.Env, len(of.objects))
	for i, o := range of.objects {
		env, err := newEnv(p, o.decl, of.params, &left)
		if err != nil {
			return nil, err
		}
		envs[i] = env
	}
	var out []admission.ExpressionWarning
	bytes := 0
	for _, e := range expressionsOf(p) {
		var wrong []string
		for i, env := range envs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if !left.take() {
				return out, nil
			}
			if _, issues := env.Compile(e.text); issues.Err() != nil {
				wrong = append(wrong, fmt.Sprintf("%v: %v", of.objects[i].kind, issues))
			}
		}
		if len(wrong) == 0 {
			continue
		}
		w := admission.ExpressionWarning{FieldRef: e.field, Warning: strings.Join(wrong, "\n")}
		bytes += len(w.FieldRef) + len(w.Warning)
		if bytes > maxWarnings {
			break
		}
		out = append(out, w)
	}
	return out, nil
}

// expression is a text of a policy with the field that holds it.
type expression struct{ field, text string }

// expressionsOf are those whose types are checked: of validations alone, as
// Kubernetes has it.
func expressionsOf(p *admission.ValidatingAdmissionPolicy) []expression {
	var out []expression
	for i, v := range p.Spec.Validations {
		out = append(out, expression{fmt.Sprintf("spec.validations[%d].expression", i), v.Expression})
		if v.MessageExpression != "" {
			out = append(out, expression{fmt.Sprintf("spec.validations[%d].messageExpression", i), v.MessageExpression})
		}
	}
	return out
}
