package expressions

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// typed tells of errors of an evaluation's own: what the request and the namespace
// have is known when a text is checked, and looked up when it is evaluated.
func typed(errs field.ErrorList) bool {
	text := errs.ToAggregate().Error()
	return strings.Contains(text, "undefined field") || strings.Contains(text, "no matching overload") || strings.Contains(text, "undeclared reference to 'variables'")
}

// FuzzExpressions: whatever text is checked and evaluated, both end, and what Check
// refuses is not evaluated.
func FuzzExpressions(f *testing.F) {
	for _, seed := range []string{
		`object.spec.replicas <= params.max`,
		`object.items.all(i, object.items.all(j, object.items.all(k, object.items.exists(l, i + j + k + l < 0))))`,
		`"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!".matches("^(a+)+$")`,
		`object.name.find("[a-z]{1,1000}") == "" || quantity("10Gi").isGreaterThan(quantity("1"))`,
		`[1,2,3].map(x, [1,2,3].map(y, x*y)).size() == 3 && ip("::1").family() == 6`,
		`authorizer.group("apps").resource("deployments").check("get").allowed()`,
		`has(request.userInfo) ? request.userInfo.username.startsWith("a") : true`,
		`"%d %s %.3f %x".format([1, "a", 1.0, b"x"]) != ""`,
		`((((((((((((true))))))))))))`, `{"a": {"b": [1, 2u, 3.0, null, b"", duration("1h")]}}.a.b[9223372036854775807] == 1`,
	} {
		f.Add(seed)
	}
	values := map[string]any{
		"object":          map[string]any{"name": "o", "spec": map[string]any{"replicas": int64(3)}, "items": []any{int64(1), int64(2), int64(3), "x", nil}},
		"oldObject":       nil,
		"params":          map[string]any{"max": int64(5)},
		"request":         map[string]any{"userInfo": map[string]any{"username": "alice"}},
		"namespaceObject": map[string]any{"metadata": map[string]any{"name": "ns"}},
		"variables":       map[string]any{},
	}
	checker := NewChecker()
	f.Fuzz(func(t *testing.T, text string) {
		c, err := New(Policy()...)
		if err != nil {
			t.Fatal(err)
		}
		checked := checker.Check(Text{Expression: text}, Scope{Params: true}, field.NewPath("expression"))
		_, evaluated := c.Holds(t.Context(), text, values)
		if evaluated == nil && checked != nil && !typed(checked) {
			t.Errorf("%q is evaluated, and not checked: %v", text, checked)
		}
	})
}
