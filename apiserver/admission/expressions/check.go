package expressions

import (
	"strings"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/util/validation/field"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// Text is an expression that somebody wrote, and what it is to give; anything will
// do where Want is empty.
type Text struct {
	Name, Expression string
	Want             []*cel.Type
}

// GetName is the variable that the expression defines.
func (t Text) GetName() string { return t.Name }

// GetExpression is the expression.
func (t Text) GetExpression() string { return t.Expression }

// ReturnTypes are what it is to give.
func (t Text) ReturnTypes() []*cel.Type {
	if len(t.Want) == 0 {
		return []*cel.Type{cel.AnyType, cel.DynType}
	}
	return t.Want
}

// Scope is what expressions may name beside the request and its objects.
type Scope struct {
	Params, Patches bool
	// Message is the scope of texts about a decision, which cannot ask for rights.
	Message bool
}

func (s Scope) declared() plugincel.OptionalVariableDeclarations {
	return plugincel.OptionalVariableDeclarations{HasAuthorizer: !s.Message, HasParams: s.Params, HasPatchTypes: s.Patches}
}

// Checker says what is wrong with texts, with the types of what they name.
type Checker struct {
	plain plugincel.Compiler
}

// NewChecker makes a Checker.
func NewChecker() *Checker {
	return &Checker{plain: plugincel.NewCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))}
}

// Check says what is wrong with a text that may name no variables of its object.
func (c *Checker) Check(t Text, s Scope, at *field.Path) field.ErrorList {
	return told(c.plain.CompileCELExpression(t, s.declared(), environment.NewExpressions), t, at)
}

// Variables is a Checker of texts that may name the variables that were defined
// before them.
type Variables struct {
	composed *plugincel.CompositedCompiler
}

// NewVariables makes one for an object.
func NewVariables() (*Variables, error) {
	c, err := plugincel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	if err != nil {
		return nil, err
	}
	return &Variables{composed: c}, nil
}

// Define checks a variable's text and lets those that follow name it.
func (v *Variables) Define(t Text, s Scope, at *field.Path) field.ErrorList {
	return told(v.composed.CompileAndStoreVariable(t, s.declared(), environment.NewExpressions), t, at)
}

// Check says what is wrong with a text.
func (v *Variables) Check(t Text, s Scope, at *field.Path) field.ErrorList {
	return told(v.composed.CompileCELExpression(t, s.declared(), environment.NewExpressions), t, at)
}

func told(r plugincel.CompilationResult, t Text, at *field.Path) field.ErrorList {
	switch err := r.Error; {
	case err == nil:
		return nil
	case err.Type == apiservercel.ErrorTypeRequired:
		return field.ErrorList{field.Required(at, err.Detail)}
	case err.Type == apiservercel.ErrorTypeInvalid:
		return field.ErrorList{field.Invalid(at, t.Expression, err.Detail)}
	default:
		return field.ErrorList{field.InternalError(at, err)}
	}
}

// Blank tells whether there is no text.
func (t Text) Blank() bool { return strings.TrimSpace(t.Expression) == "" }
