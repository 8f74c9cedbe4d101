package vapstatus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admission "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// published is what an API server says of itself, by path.
type published map[string]string

func (p published) get(_ context.Context, path string) ([]byte, error) {
	text, ok := p[path]
	if !ok {
		return nil, apierrors.NewNotFound(schema.GroupResource{}, path)
	}
	if text == "" {
		return nil, errors.New("the server is away")
	}
	return []byte(text), nil
}

func api() published {
	return published{
		"/apis/apps/v1": `{"resources":[{"name":"deployments","kind":"Deployment"},{"name":"deployments/scale","kind":"Scale"},{"name":"treesets","kind":"TreeSet"}]}`,
		"/openapi/v3/apis/apps/v1": `{"components":{"schemas":{
			"Deployment":{"type":"object","x-kubernetes-group-version-kind":[{"group":"apps","version":"v1","kind":"Deployment"}],"properties":{
				"apiVersion":{"type":"string"},"kind":{"type":"string"},"metadata":{"allOf":[{"$ref":"#/components/schemas/Meta"}],"default":{}},
				"spec":{"$ref":"#/components/schemas/Spec"}}},
			"Meta":{"type":"object","properties":{"name":{"type":"string"},"generateName":{"type":"string"},"namespace":{"type":"string"},
				"creationTimestamp":{"type":"string","format":"date-time"},
				"labels":{"type":"object","additionalProperties":{"type":"string"}}}},
			"Spec":{"type":"object","properties":{"replicas":{"type":"integer","format":"int32"},"for":{"type":"string"},
				"surge":{"oneOf":[{"type":"integer"},{"type":"string"}]},"raw":{"type":"object"},
				"open":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":{"type":"string"}}},
				"containers":{"type":"array","items":{"type":"object","properties":{"image":{"type":"string"}}}}}},
			"TreeSet":{"type":"object","x-kubernetes-group-version-kind":[{"group":"apps","version":"v1","kind":"TreeSet"}],"properties":{
				"spec":{"$ref":"#/components/schemas/Tree"}}},
			"Tree":{"type":"object","properties":{"name":{"type":"string"},"child":{"$ref":"#/components/schemas/Tree"}}}}}}`,
		"/api/v1": `{"resources":[{"name":"configmaps","kind":"ConfigMap"}]}`,
		"/openapi/v3/api/v1": `{"components":{"schemas":{"ConfigMap":{"type":"object","x-kubernetes-group-version-kind":[{"group":"","version":"v1","kind":"ConfigMap"}],
			"properties":{"data":{"type":"object","additionalProperties":{"type":"string"}}}}}}}`,
	}
}

func rule(group, version string, resources ...string) admission.NamedRuleWithOperations {
	return admission.NamedRuleWithOperations{RuleWithOperations: admission.RuleWithOperations{
		Operations: []admission.OperationType{admission.OperationAll},
		Rule:       admission.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: resources},
	}}
}

func policy(expression string, change ...func(*admission.ValidatingAdmissionPolicySpec)) *admission.ValidatingAdmissionPolicy {
	p := &admission.ValidatingAdmissionPolicy{Spec: admission.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admission.MatchResources{ResourceRules: []admission.NamedRuleWithOperations{rule("apps", "v1", "deployments")}},
		Validations:      []admission.Validation{{Expression: expression}},
	}}
	for _, c := range change {
		c(&p.Spec)
	}
	return p
}

func resources(rules ...admission.NamedRuleWithOperations) func(*admission.ValidatingAdmissionPolicySpec) {
	return func(s *admission.ValidatingAdmissionPolicySpec) { s.MatchConstraints.ResourceRules = rules }
}

func params(version, kind string) func(*admission.ValidatingAdmissionPolicySpec) {
	return func(s *admission.ValidatingAdmissionPolicySpec) {
		s.ParamKind = &admission.ParamKind{APIVersion: version, Kind: kind}
	}
}

func variable(name, expression string) func(*admission.ValidatingAdmissionPolicySpec) {
	return func(s *admission.ValidatingAdmissionPolicySpec) {
		s.Variables = append(s.Variables, admission.Variable{Name: name, Expression: expression})
	}
}

// Covers: api.policies
func TestCheck(t *testing.T) {
	const first = "spec.validations[0].expression"
	undefined := func(kind, text string, column int, field string) string {
		return fmt.Sprintf("%s: ERROR: <input>:1:%d: undefined field '%s'\n | %s\n | %s^", kind, column, field, text, strings.Repeat(".", column-1))
	}
	const deployment, configMap, treeSet = "apps/v1, Kind=Deployment", "/v1, Kind=ConfigMap", "apps/v1, Kind=TreeSet"
	for name, tc := range map[string]struct {
		policy *admission.ValidatingAdmissionPolicy
		want   []admission.ExpressionWarning
	}{
		"all right":       {policy: policy("object.spec.replicas > 1 && oldObject != null && has(object.metadata.labels) && object.metadata.labels['a'] == 'b'")},
		"undefined field": {policy("object.foo > 1"), []admission.ExpressionWarning{{FieldRef: first, Warning: undefined(deployment, "object.foo > 1", 7, "foo")}}},
		"wrong type": {policy("object.spec.replicas > '1'"), []admission.ExpressionWarning{{FieldRef: first,
			Warning: deployment + ": ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n | object.spec.replicas > '1'\n | .....................^"}}},
		"in a list": {policy("object.spec.containers.all(c, c.name != '')"), []admission.ExpressionWarning{{FieldRef: first,
			Warning: undefined(deployment, "object.spec.containers.all(c, c.name != '')", 32, "name")}}},
		"the name of a keyword": {policy: policy("object.spec.__for__ == 'a'")},
		"a time is text":        {policy: policy("object.metadata.creationTimestamp < '2026' && timestamp(object.metadata.creationTimestamp).getFullYear() > 2000")},
		"no schema, no warning": {policy: policy("object.spec.surge == 1 || object.spec.surge == '1%' || object.spec.raw.a.b == 2 || object.spec.open.b == 'c'")},
		"message expression": {
			policy("object.spec.replicas > 1", func(s *admission.ValidatingAdmissionPolicySpec) {
				s.Validations = append(s.Validations, admission.Validation{Expression: "true", MessageExpression: "object.foo"})
			}),
			[]admission.ExpressionWarning{{FieldRef: "spec.validations[1].messageExpression", Warning: undefined(deployment, "object.foo", 7, "foo")}},
		},
		"each type, by name": {
			policy("object.spec.replicas > 1", resources(rule("apps", "v1", "treesets", "deployments"), rule("", "v1", "configmaps", "configmaps"))),
			[]admission.ExpressionWarning{{FieldRef: first, Warning: undefined(configMap, "object.spec.replicas > 1", 7, "spec") + "\n" +
				undefined(treeSet, "object.spec.replicas > 1", 12, "replicas")}},
		},
		"stars, subresources and the unknown are passed over": {policy: policy("object.foo", resources(
			rule("*", "v1", "deployments"), rule("apps", "*", "deployments"), rule("apps", "v1", "*", "deployments/scale", "nothings"), rule("none", "v1", "deployments")))},
		"a type within itself": {policy("object.spec.child.child.name == object.spec.nome", resources(rule("apps", "v1", "treesets"))),
			[]admission.ExpressionWarning{{FieldRef: first, Warning: undefined(treeSet, "object.spec.child.child.name == object.spec.nome", 44, "nome")}}},
		"params": {policy("params.data['a'] == params.foo", params("v1", "ConfigMap")),
			[]admission.ExpressionWarning{{FieldRef: first, Warning: undefined(deployment, "params.data['a'] == params.foo", 27, "foo")}}},
		"params of an unknown kind": {policy: policy("params.foo", params("example.com/v1", "Other"))},
		"no params": {policy("params == null"), []admission.ExpressionWarning{{FieldRef: first,
			Warning: deployment + ": ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params == null\n | ^"}}},
		"variables": {policy: policy("variables.odd && variables.images.exists(i, i == 'x')", variable("n", "object.spec.replicas"), variable("odd", "variables.n % 2 == 1"), variable("images", "object.spec.containers.map(c, c.image)"))},
		"a variable of another type": {policy("variables.n == 'a'", variable("n", "object.spec.replicas")), []admission.ExpressionWarning{{FieldRef: first,
			Warning: deployment + ": ERROR: <input>:1:13: found no matching overload for '_==_' applied to '(int, string)'\n | variables.n == 'a'\n | ............^"}}},
		"an unknown variable":           {policy("variables.m == 1", variable("n", "1")), []admission.ExpressionWarning{{FieldRef: first, Warning: undefined(deployment, "variables.m == 1", 10, "m")}}},
		"a wrong variable":              {policy: policy("variables.n == 'a'", variable("n", "object.foo"))},
		"request, namespace, authority": {policy: policy("request.userInfo.groups.exists(g, g == 'a') && request.kind.kind == 'b' && namespaceObject.metadata.labels['a'] == 'b' && authorizer.requestResource.check('get').allowed()")},
		"a request's unknown field":     {policy("request.foo == 1"), []admission.ExpressionWarning{{FieldRef: first, Warning: undefined(deployment, "request.foo == 1", 8, "foo")}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of, err := newSchemas(api().get).typesOf(t.Context(), tc.policy)
			if err != nil {
				t.Fatal(err)
			}
			got, err := check(t.Context(), tc.policy, of)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("the warnings differ (-want +got):\n%s", d)
			}
		})
	}
}

// What cannot be read is told, and keeps nothing else from being checked.
//
// Covers: api.policies
func TestTypesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"the resources": "/api/v1", "the schemas": "/openapi/v3/api/v1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := api()
			server[path] = ""
			of, err := newSchemas(server.get).typesOf(t.Context(), policy("true", resources(rule("", "v1", "configmaps"), rule("apps", "v1", "deployments"))))
			if err == nil || !strings.Contains(err.Error(), "reading "+path+": ") {
				t.Errorf("the error is %v, want one that names %s", err, path)
			}
			if len(of.objects) != 1 || of.objects[0].kind.Kind != "Deployment" {
				t.Errorf("the types are %v, want the Deployment alone", of.objects)
			}
		})
	}
}

// Covers: api.policies
func TestBounds(t *testing.T) {
	t.Parallel()
	server := api()
	var names, kinds []string
	for i := range maxTypes + 5 {
		names = append(names, fmt.Sprintf("r%02d", i))
		kinds = append(kinds, fmt.Sprintf(`{"name":"r%02d","kind":"K%02d"}`, i, i))
	}
	server["/apis/many/v1"] = `{"resources":[` + strings.Join(kinds, ",") + `]}`
	asked := 0
	s := newSchemas(func(ctx context.Context, path string) ([]byte, error) { asked++; return server.get(ctx, path) })
	got, err := s.kinds(t.Context(), &admission.MatchResources{ResourceRules: []admission.NamedRuleWithOperations{rule("many", "v1", names...)}})
	if err != nil || len(got) != maxTypes {
		t.Errorf("%d kinds and %v, want %d", len(got), err, maxTypes)
	}
	absent := rule("none", "v1", "things")
	for i := range 3 * maxVersions {
		absent.APIVersions = append(absent.APIVersions, fmt.Sprintf("v%d", i+2))
	}
	asked = 0
	if _, err := s.kinds(t.Context(), &admission.MatchResources{ResourceRules: []admission.NamedRuleWithOperations{absent}}); err != nil || asked != maxVersions {
		t.Errorf("%d questions and %v, want %d", asked, err, maxVersions)
	}

	wrong := policy("object.foo", func(s *admission.ValidatingAdmissionPolicySpec) {
		for range 2 * maxCompilations {
			s.Validations = append(s.Validations, admission.Validation{Expression: "object.foo"})
		}
	})
	of, err := newSchemas(server.get).typesOf(t.Context(), wrong)
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := check(t.Context(), wrong, of)
	bytes := 0
	for _, w := range warnings {
		bytes += len(w.FieldRef) + len(w.Warning)
	}
	if err != nil || bytes == 0 || bytes > maxWarnings {
		t.Errorf("%d bytes of warnings and %v, want at most %d", bytes, err, maxWarnings)
	}

	// Each of these names two of the next: written out they would be a billion.
	wide := document{"D30": []byte(`{"type":"string"}`)}
	for i := range 30 {
		wide[fmt.Sprintf("D%d", i)] = fmt.Appendf(nil, `{"type":"object","x-kubernetes-group-version-kind":[{"kind":"D%d"}],"properties":{"a":{"$ref":"%sD%d"},"b":{"$ref":"%[2]sD%[3]d"}}}`, i, reference, i+1)
	}
	if _, err := wide.of(schema.GroupVersionKind{Kind: "D0"}); err == nil || !strings.Contains(err.Error(), "more than 100000 fields") {
		t.Errorf("the error is %v, want one of too many fields", err)
	}
}
