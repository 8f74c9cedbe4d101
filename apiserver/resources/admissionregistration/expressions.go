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
	compiler func() (*expressions.Compiler, error)
}

func newChecker(variables func() []cel.EnvOption) *checker {
	return &checker{compiler: sync.OnceValues(func() (*expressions.Compiler, error) { return expressions.New(variables()...) })}
}

// expression demands a text that gives one of want.
func (c *checker) expression(text string, at *field.Path, none string, want ...*cel.Type) field.ErrorList {
	if strings.TrimSpace(text) == "" {
		return field.ErrorList{field.Required(at, none)}
	}
	compiler, err := c.compiler()
	if err != nil {
		return field.ErrorList{field.InternalError(at, err)}
	}
	if err := compiler.Check(text, want...); err != nil {
		return field.ErrorList{field.Invalid(at, text, err.Error())}
	}
	return nil
}

func (c *checker) conditions(list []v1.MatchCondition, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) > 64 {
		errs = append(errs, field.TooMany(at, len(list), 64))
	}
	names := map[string]bool{}
	for i, m := range list {
		at := at.Index(i)
		errs = append(errs, c.expression(m.Expression, at.Child("expression"), "", cel.BoolType)...)
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

func (c *checker) variables(list []v1.Variable) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i, v := range list {
		at := specPath.Child("variables").Index(i)
		switch {
		case v.Name == "":
			errs = append(errs, field.Required(at.Child("name"), "name is not specified"))
		case !celIdentifier(v.Name):
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, "name is not a valid CEL identifier"))
		case names[v.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		names[v.Name] = true
		errs = append(errs, c.expression(v.Expression, at.Child("expression"), "expression is not specified")...)
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
