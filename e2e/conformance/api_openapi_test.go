package conformance

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const fooSchema = `{"description":"Foo CRD for Testing","type":"object","properties":{
	"spec":{"type":"object","description":"Specification of Foo","properties":{
		"bars":{"description":"List of Bars and their specs.","type":"array","items":{"type":"object","required":["name"],"properties":{
			"name":{"description":"Name of Bar.","type":"string"},
			"age":{"description":"Age of Bar.","type":"string"},
			"feeling":{"description":"Whether Bar is feeling great or down.","type":"string","enum":["Great","Down"]},
			"bazs":{"description":"List of Bazs.","type":"array","items":{"type":"string"}}}}}}},
	"status":{"description":"Status of Foo","type":"object","properties":{
		"bars":{"description":"List of Bars and their statuses.","type":"array","items":{"type":"object","properties":{
			"name":{"description":"Name of Bar.","type":"string"},
			"available":{"description":"Whether the Bar is installed.","type":"boolean"},
			"quxType":{"description":"Indicates to external qux type.","pattern":"in-tree|out-of-tree","type":"string"}}}}}}}}`

// openAPI is the second version's document.
type openAPI struct {
	Definitions map[string]struct {
		Kinds []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
	}
	Paths map[string]any
}

// published waits until a kind's versions are in the documents, or are not.
func (s *space) published(d *apiextensionsv1.CustomResourceDefinition, versions map[string]bool) {
	s.t.Helper()
	s.eventually(60*time.Second, "the documents are right", func() error {
		b, err := s.client.Discovery().RESTClient().Get().AbsPath("/openapi/v2").SetHeader("Accept", "application/json").DoRaw(s.ctx)
		if err != nil {
			return err
		}
		var doc openAPI
		if err := json.Unmarshal(b, &doc); err != nil {
			return err
		}
		parts := strings.Split(d.Spec.Group, ".")
		slices.Reverse(parts)
		for v, want := range versions {
			name := strings.Join(parts, ".") + "." + v + "." + d.Spec.Names.Kind
			def, ok := doc.Definitions[name]
			if ok != want {
				return fmt.Errorf("the document of version 2 has %s: %v", name, ok)
			}
			if _, ok := doc.Paths["/apis/"+d.Spec.Group+"/"+v+"/namespaces/{namespace}/"+d.Spec.Names.Plural]; ok != want {
				return fmt.Errorf("the document of version 2 has the path of %s: %v", name, ok)
			}
			if want && !slices.Contains(def.Kinds, metav1.GroupVersionKind{Group: d.Spec.Group, Version: v, Kind: d.Spec.Names.Kind}) {
				return fmt.Errorf("%s is of %v", name, def.Kinds)
			}
			b, err := s.client.Discovery().RESTClient().Get().AbsPath("/openapi/v3/apis/" + d.Spec.Group + "/" + v).DoRaw(s.ctx)
			if ok := err == nil && strings.Contains(string(b), `"`+name+`"`); ok != want {
				return fmt.Errorf("the document of version 3 has %s: %v (%v)", name, ok, err)
			}
		}
		return nil
	})
}

// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema
func TestAPIOpenAPISchema(t *testing.T) {
	s := parallel(t)
	d := s.definition("schema", "Foo", "v1")
	d.Spec.Versions[0].Schema = schemaOf(s, fooSchema)
	d = s.define(d)
	s.published(d, map[string]bool{"v1": true})
	meta := func(spec string) string {
		return fmt.Sprintf(`{"kind":"Foo","apiVersion":"%s/v1","metadata":{"name":"test-foo"},%s}`, d.Spec.Group, spec)
	}
	good := meta(`"spec":{"bars":[{"name":"test-bar","age":"10","feeling":"Great"}]}`)
	s.mustKubectl(good, "create", "-f", "-")
	s.mustKubectl("", "delete", "foos."+d.Spec.Group, "test-foo")
	s.mustKubectl(good, "apply", "-f", "-")
	s.mustKubectl("", "delete", "foos."+d.Spec.Group, "test-foo")
	for body, texts := range map[string][]string{
		meta(`"spec":{"bars":[{"name":"test-bar","age":"10","feeling":"Bad"}]}`): {`spec.bars[0].feeling: Unsupported value: "Bad": supported values: "Great", "Down"`},
		meta(`"spec":{"foo":true}`):                  {`unknown field "spec.foo"`},
		meta(`"spec":{"bars":[{"age":"10"}]}`):       {"spec.bars[0].name: Required value"},
		meta(`"specs":{},"spec":{"bars":[]}`):        {`unknown field "specs"`},
		meta(`"spec":{"bars":[{"name":1}]}`):         {"spec.bars[0].name: Invalid value"},
		meta(`"spec":{"bars":[{"name":"b","a":1}]}`): {`unknown field "spec.bars[0].a"`},
	} {
		s.refuses(body, []string{"create", "-f", "-"}, texts...)
		s.refuses(body, []string{"apply", "-f", "-"}, texts...)
	}
	s.says("", []string{"explain", "foos." + d.Spec.Group}, "DESCRIPTION:", "Foo CRD for Testing", "FIELDS:", "apiVersion", "<string>", "APIVersion defines", "spec", "<Object>", "Specification of Foo")
	plural := []string{"explain", "--api-version=" + d.Spec.Group + "/v1"}
	s.says("", append(plural, "foos.spec"), "DESCRIPTION:", "Specification of Foo", "FIELDS:", "bars", "<[]Object>", "List of Bars and their specs")
	s.says("", append(plural, "foos.spec.bars"), "bars <[]Object>", "DESCRIPTION:", "List of Bars and their specs", "FIELDS:", "bazs", "<[]string>", "List of Bazs", "name", "<string> -required-", "Name of Bar")
	s.says("", append(plural, "foos.metadata"), "ObjectMeta", "creationTimestamp")
	s.says("", append(plural, "foos", "--recursive"), "bars", "bazs", "quxType")
	s.refuses("", append(plural, "foos.spec.bars2"))
}

func TestAPIOpenAPIOpen(t *testing.T) {
	for name, tc := range map[string]struct {
		schema, field string
		explain       []string
	}{
		// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema
		"none": {explain: []string{"DESCRIPTION:", "<empty>"}},
		// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root
		"root": {schema: `{"description":"preserve-unknown-properties at root for Testing","x-kubernetes-preserve-unknown-fields":true,"type":"object",
			"properties":{"spec":{"description":"Specification of Waldo","type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"dummy":{"description":"Dummy property.","type":"object"}}},
			"status":{"description":"Status of Waldo","type":"object","properties":{"bars":{"description":"List of Bars and their statuses.","type":"array","items":{"type":"object"}}}}}}`,
			explain: []string{"KIND:", "Foo", "preserve-unknown-properties at root for Testing"}},
		// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object
		"nested": {schema: `{"description":"preserve-unknown-properties in nested field for Testing","type":"object",
			"properties":{"spec":{"description":"Specification of Waldo","type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"dummy":{"description":"Dummy property.","type":"object"}}},
			"status":{"description":"Status of Waldo","type":"object","properties":{"bars":{"description":"List of Bars and their statuses.","type":"array","items":{"type":"object"}}}}}}`,
			field: ".spec", explain: []string{"DESCRIPTION:", "Specification of Waldo", "dummy"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			d := s.definition("open", "Foo", "v1")
			if tc.schema != "" {
				d.Spec.Versions[0].Schema = schemaOf(s, tc.schema)
			}
			d = s.define(d)
			s.published(d, map[string]bool{"v1": true})
			content := `"spec":{"a":null,"b":[{"c":"d"}]}`
			if name != "nested" {
				content += `,"more":{"deep":[1]}`
			}
			body := fmt.Sprintf(`{"kind":"Foo","apiVersion":"%s/v1","metadata":{"name":"test-cr"},%s}`, d.Spec.Group, content)
			s.mustKubectl(body, "create", "-f", "-")
			s.mustKubectl("", "delete", "foos."+d.Spec.Group, "test-cr")
			s.mustKubectl(body, "apply", "-f", "-")
			s.mustKubectl(strings.Replace(body, `"d"`, `"e"`, 1), "apply", "-f", "-")
			s.mustKubectl("", "delete", "foos."+d.Spec.Group, "test-cr")
			s.says("", []string{"explain", "--api-version=" + d.Spec.Group + "/v1", "foos" + tc.field}, tc.explain...)
			if name == "root" {
				s.says("", []string{"explain", "foos." + d.Spec.Group}, tc.explain...)
			}
		})
	}
}

// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups
// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but different versions
// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and version but different kinds
func TestAPIOpenAPIMany(t *testing.T) {
	s := parallel(t)
	for _, list := range [][]*apiextensionsv1.CustomResourceDefinition{
		{s.definition("group1", "Foo", "v1"), s.definition("group2", "Waldo", "v1beta1")},
		{s.definition("versions", "Foo", "v2", "v3"), s.definition("versions", "Waldo", "v4", "v5")},
		{s.definition("kinds", "Foo", "v6"), s.definition("kinds", "Waldo", "v6")},
	} {
		for _, d := range list {
			for i := range d.Spec.Versions {
				d.Spec.Versions[i].Schema = schemaOf(s, fooSchema)
			}
			s.define(d)
		}
		for _, d := range list {
			want := map[string]bool{}
			for _, v := range d.Spec.Versions {
				want[v.Name] = true
			}
			s.published(d, want)
		}
	}
}

// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version gets renamed
// Conformance: [sig-api-machinery] CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version gets changed to not be served
func TestAPIOpenAPIChanges(t *testing.T) {
	s := parallel(t)
	d := s.define(s.definition("changes", "Foo", "v2", "v3"))
	s.published(d, map[string]bool{"v2": true, "v3": true})
	c := s.crds().ApiextensionsV1().CustomResourceDefinitions()
	_, err := c.Patch(s.ctx, d.Name, types.JSONPatchType, []byte(`[{"op":"test","path":"/spec/versions/1/name","value":"v3"},{"op":"replace","path":"/spec/versions/1/name","value":"v4"}]`), metav1.PatchOptions{})
	s.must(err)
	s.published(d, map[string]bool{"v2": true, "v3": false, "v4": true})
	_, err = c.Patch(s.ctx, d.Name, types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/versions/1/served","value":false}]`), metav1.PatchOptions{})
	s.must(err)
	s.published(d, map[string]bool{"v2": true, "v4": false})
}
