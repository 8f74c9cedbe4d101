package conformance

import (
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const hostPortSchema = `{"type":"object","properties":{"spec":{"type":"object","properties":{
	"cronSpec":{"type":"string","pattern":"^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$"},
	"foo":{"type":"string"},
	"knownField1":{"type":"string"},
	"ports":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["containerPort","protocol"],"items":{"type":"object","required":["containerPort","protocol"],
		"properties":{"containerPort":{"type":"integer","format":"int32"},"hostIP":{"type":"string"},"hostPort":{"type":"integer"},"name":{"type":"string"},"protocol":{"type":"string"}}}}
}}}}`

const embeddedSchema = `{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"spec":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{
	"template":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true,
		"properties":{"metadata":{"type":"object"},"spec":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}}}}}`

const preservingSchema = `{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"spec":{"type":"object","x-kubernetes-preserve-unknown-fields":true,
	"properties":{"knownField1":{"type":"string"}}}}}`

// applyYAML is a server-side apply of a text, as a strict client sends it.
func (s *space) applyYAML(path, body string) error {
	return s.client.Discovery().RESTClient().Patch(types.ApplyYAMLPatchType).AbsPath(path).
		Param("fieldManager", "test").Param("fieldValidation", "Strict").Body([]byte(body)).Do(s.ctx).Error()
}

func TestAPIFieldValidationCustom(t *testing.T) {
	for name, tc := range map[string]struct {
		schema, body string
		wants        []string
		kubectl      []string
	}{
		// Conformance: [sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema
		"no-schema": {body: `
apiVersion: API
kind: Boat
metadata: {name: boat, finalizers: [test/finalizer]}
spec: {knownField1: val1, unknownField: unknown}
`},
		// Conformance: [sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema
		"valid": {schema: hostPortSchema, body: `
apiVersion: API
kind: Boat
metadata: {name: boat, finalizers: [test/finalizer]}
spec:
  knownField1: val1
  ports:
  - {name: portName, containerPort: 8080, protocol: TCP, hostPort: 8081, hostIP: 1.2.3.4}
`},
		// Conformance: [sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema
		"extra": {schema: hostPortSchema, wants: []string{".unknownField: field not declared in schema"},
			kubectl: []string{"strict decoding error", `unknown field "spec.extraProperty"`, `unknown field "spec.ports[0].unknownNested"`, `unknown field "unknownField"`}, body: `
apiVersion: API
kind: Boat
metadata: {name: boat, finalizers: [test/finalizer]}
unknownField: unknown
spec:
  knownField1: val1
  extraProperty: arbitrary-value
  ports:
  - {name: portName, containerPort: 8080, protocol: TCP, hostPort: 8081, unknownNested: val1}
`},
		// Conformance: [sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR
		"metadata": {schema: embeddedSchema, wants: []string{".metadata.unknownMeta: field not declared in schema", ".spec.template.metadata.unknownSubMeta: field not declared in schema"},
			kubectl: []string{"strict decoding error", `unknown field "metadata.unknownMeta"`, `unknown field "spec.template.metadata.unknownSubMeta"`}, body: `
apiVersion: API
kind: Boat
metadata: {name: boat, finalizers: [test/finalizer], unknownMeta: unknown}
spec:
  template:
    apiVersion: foo/v1
    kind: Sub
    metadata: {unknownSubMeta: unknown, name: subobject, namespace: NAMESPACE}
`},
		// Conformance: [sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields
		"duplicates": {schema: preservingSchema, wants: []string{`line 10: key "unknownDupe" already set in map`}, body: `
apiVersion: API
kind: Boat
metadata:
  name: boat
  finalizers: [test/finalizer]
spec:
  unknown: uk1
  unknownDupe: valDupe
  unknownDupe: valDupe2
  ports: []
`},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			d := s.definition("strict", "Boat", "v1")
			if tc.schema != "" {
				d.Spec.Versions[0].Schema = schemaOf(s, tc.schema)
			}
			d = s.define(d)
			body := strings.NewReplacer("API", d.Spec.Group+"/v1", "NAMESPACE", s.name).Replace(tc.body)
			path := "/apis/" + d.Spec.Group + "/v1/namespaces/" + s.name + "/boats/boat"
			err := s.applyYAML(path, body)
			if len(tc.wants) == 0 {
				s.must(err)
				_, err := s.customs(d, "v1").Patch(s.ctx, "boat", types.MergePatchType, []byte(`{"metadata":{"finalizers":[]}}`), metav1.PatchOptions{})
				s.must(err)
				s.mustKubectl(body, "replace", "--validate=strict", "-f", "-")
				s.unfinalize(d)
				return
			}
			for _, want := range tc.wants {
				s.denied("a strict apply", err, want)
			}
			if len(tc.kubectl) > 0 { // kubectl's own reading of a file drops what is there twice
				s.refuses(body, []string{"create", "--validate=true", "-f", "-"}, tc.kubectl...)
			}
		})
	}
}

// unfinalize lets the object boat go.
func (s *space) unfinalize(d *apiextensionsv1.CustomResourceDefinition) {
	s.t.Helper()
	_, err := s.customs(d, "v1").Patch(s.ctx, "boat", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	s.must(err)
}

// Conformance: [sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object
// Conformance: [sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object
func TestAPIFieldValidationTyped(t *testing.T) {
	const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"my-dep","labels":{"app":"nginx"}META},
		"spec":{SPEC"selector":{"matchLabels":{"app":"nginx"}},"template":{"metadata":{"labels":{"app":"nginx"}},"spec":{"containers":[{"name":"nginx","image":"nginx"}]}}}}`
	s := parallel(t)
	for name, tc := range map[string]struct{ meta, spec, want, apply string }{
		"unknown and duplicate": {
			spec: `"unknownField":"foo","replicas":2,"replicas":3,`, apply: ".spec.unknownField: field not declared in schema",
			want: `strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"`,
		},
		"metadata": {
			meta: `,"unknownMeta":"foo"`, apply: ".metadata.unknownMeta: field not declared in schema",
			want: `strict decoding error: unknown field "metadata.unknownMeta"`,
		},
		"duplicate": {
			spec: "\n  \"paused\":true,\n\"paused\":true,", apply: `line 4: key "paused" already set in map`,
			want: `strict decoding error: duplicate field "spec.paused"`,
		},
	} {
		body := strings.NewReplacer("META", tc.meta, "SPEC", tc.spec).Replace(deployment)
		for _, path := range []string{"/apis/apps/v1", "/apis/apps/v1/"} {
			err := s.client.CoreV1().RESTClient().Post().AbsPath(path).Namespace(s.name).Resource("deployments").
				Param("fieldManager", "test").Param("fieldValidation", "Strict").Body([]byte(body)).Do(s.ctx).Error()
			s.denied(name+" in a create", err, tc.want)
		}
		err := s.applyYAML("/apis/apps/v1/namespaces/"+s.name+"/deployments/my-dep", body)
		s.denied(name+" in an apply", err, tc.apply)
		if name != "duplicate" { // kubectl's own reading of a file drops what is there twice
			s.refuses(body, []string{"create", "--validate=strict", "-f", "-"}, "strict decoding error")
		}
	}
}
