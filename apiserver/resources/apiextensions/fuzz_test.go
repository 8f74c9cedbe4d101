package apiextensions

import (
	"encoding/json"
	"testing"

	"sigs.k8s.io/yaml"
)

// FuzzDefinition: a definition of whatever schema and expressions is valid or
// refused, in bounded time, and validating does not change it.
func FuzzDefinition(f *testing.F) {
	for _, text := range []string{
		good,
		"spec: {versions: [{name: v1, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string, x-kubernetes-validations: [{rule: \"self.matches('(a+)+')\"}]}}}}}]}",
		"spec: {versions: [{name: v1, schema: {openAPIV3Schema: {type: object, properties: {a: {type: array, items: {type: string}, x-kubernetes-validations: [{rule: \"self.all(x, self.all(y, x == y))\", messageExpression: \"'a' + self\"}]}}}}}]}",
		"spec: {versions: [{name: v1, schema: {openAPIV3Schema: {allOf: [{not: {anyOf: [{}]}}], default: {a: [1]}, x-kubernetes-embedded-resource: true, x-kubernetes-list-map-keys: [a]}}, additionalPrinterColumns: [{jsonPath: '.a[?(@.b)]'}], selectableFields: [{jsonPath: .a}]}]}",
	} {
		doc, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o := &crd{}
		if json.Unmarshal(b, o) != nil {
			return
		}
		defaults(o)
		before, err := json.Marshal(o)
		if err != nil {
			return
		}
		_ = validate(t.Context(), o)
		if after, err := json.Marshal(o); err != nil || string(after) != string(before) {
			t.Errorf("validating made of %s\nthis               %s, %v", before, after, err)
		}
	})
}
