package admissionregistration

import (
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	v1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/admission/expressions"
)

// checker compiles what objects of the group bring in CEL. Its environment is
// made when the first expression comes: most clusters have none.
type checker struct {
	plain func() *expressions.Checker
}

func newChecker() *checker { return &checker{plain: sync.OnceValue(expressions.NewChecker)} }

// conditions check match conditions, which may not name an object's variables.
func (c *checker) conditions(list []v1.MatchCondition, scope expressions.Scope, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) > 64 {
		errs = append(errs, field.TooMany(at, len(list), 64))
	}
	names := map[string]bool{}
	for i, m := range list {
		at := at.Index(i)
		text := expressions.Text{Expression: m.Expression, Want: []*cel.Type{cel.BoolType}}
		if text.Blank() {
			errs = append(errs, field.Required(at.Child("expression"), ""))
		} else {
			errs = append(errs, c.plain().Check(text, scope, at.Child("expression"))...)
		}
		if m.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		for _, msg := range validation.IsQualifiedName(m.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), m.Name, msg))
		}
		if names[m.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), m.Name))
		}
		names[m.Name] = true
	}
	return errs
}

// composed are the expressions of one policy: each may name the variables that
// stand before it.
type composed struct {
	variables func() (*expressions.Variables, error)
	scope     expressions.Scope
}

func newComposed(scope expressions.Scope) *composed {
	return &composed{variables: sync.OnceValues(expressions.NewVariables), scope: scope}
}

// expression demands a text that gives one of want; none is said where there is no text.
func (c *composed) expression(text string, scope expressions.Scope, at *field.Path, none string, want ...*cel.Type) field.ErrorList {
	t := expressions.Text{Expression: text, Want: want}
	if t.Blank() {
		return field.ErrorList{field.Required(at, none)}
	}
	v, err := c.variables()
	if err != nil {
		return field.ErrorList{field.InternalError(at, err)}
	}
	return v.Check(t, scope, at)
}

// define checks variables, and lets what follows name them.
func (c *composed) define(list []v1.Variable) field.ErrorList {
	var errs field.ErrorList
	for i, v := range list {
		at := specPath.Child("variables").Index(i)
		if strings.TrimSpace(v.Name) == "" {
			errs = append(errs, field.Required(at.Child("name"), "name is not specified"))
		} else if !celIdentifier(v.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, "must be a valid CEL identifier"))
		}
		t := expressions.Text{Name: v.Name, Expression: v.Expression}
		if t.Blank() {
			errs = append(errs, field.Required(at.Child("expression"), "expression is not specified"))
			continue
		}
		known, err := c.variables()
		if err != nil {
			return append(errs, field.InternalError(at, err))
		}
		errs = append(errs, known.Define(t, c.scope, at.Child("expression"))...)
	}
	return errs
}

// celIdentifier tells whether CEL can name it: a word that is none of its own.
func celIdentifier(name string) bool {
	for i, r := range name {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	switch name {
	case "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
		"loop", "package", "namespace", "return", "var", "void", "while":
		return false
	}
	return name != ""
}
