package handlers

import (
	"errors"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Covers: api.custom-schema
func TestCustomBodies(t *testing.T) {
	gvk := schema.GroupVersionKind{Group: "x.example.com", Version: "v1", Kind: "Q"}
	for name, tc := range map[string]struct{ format, body, want string }{
		"no version":     {formatJSON, `{"kind":"Q"}`, "the API version in the data () does not match the expected API version (x.example.com/v1)"},
		"another one":    {formatJSON, `{"kind":"Q","apiVersion":"x.example.com/v9"}`, "the API version in the data (x.example.com/v9) does not match the expected API version (x.example.com/v1)"},
		"no kind":        {formatJSON, `{"apiVersion":"x.example.com/v1"}`, `the object provided is unrecognized (must be of type Q): Object 'Kind' is missing in '{"apiVersion":"x.example.com/v1"}' ({"apiVersion":"x.example.com/v ...)`},
		"another kind":   {formatJSON, `{"kind":"Z","apiVersion":"x.example.com/v1","metadata":{"name":"a"}}`, `Z.x.example.com "a" is invalid: kind: Invalid value: "Z": must be Q`},
		"no object":      {formatJSON, `[]`, `struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)`},
		"nothing":        {formatJSON, ``, "unexpected end of JSON input (<empty>)"},
		"no YAML":        {formatYAML, `a: b: c`, "mapping values are not allowed in this context (613a20623a2063)"},
		"a whole object": {formatJSON, `{"kind":"Q","apiVersion":"x.example.com/v1"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decodeInto(tc.format, []byte(tc.body), gvk, &unstructured.Unstructured{}, true)
			got := ""
			if err != nil {
				var wrong wrongType
				errors.As(err, &wrong)
				got = badCustom("Q", []byte(tc.body), wrong, err).Error()
			}
			if !strings.HasSuffix(got, tc.want) || got != "" && tc.want == "" {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
