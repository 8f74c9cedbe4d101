package vapstatus

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Each kind that is built in has a type: none is too large, or of no shape.
//
// Covers: api.policies
func TestPublishedKinds(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../../shared/spec/openapi/v3/*__v1_openapi.json")
	if err != nil || len(files) == 0 {
		t.Skip("the published schemas are not here")
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ Components struct{ Schemas document } }
		if err := json.Unmarshal(text, &doc); err != nil {
			t.Fatal(err)
		}
		s := newSchemas(published{}.get)
		for name, text := range doc.Components.Schemas {
			var of groupVersionKind
			if err := json.Unmarshal(text, &of); err != nil || len(of.Kinds) != 1 {
				continue
			}
			kind := schema.GroupVersionKind(of.Kinds[0])
			s.documents[kind.GroupVersion()] = doc.Components.Schemas
			if decl, err := s.decl(t.Context(), kind, "kubernetes.object"); err != nil || decl == nil || len(decl.Fields) < 3 {
				t.Errorf("the type of %s is %v (%v), want one with fields", name, decl, err)
			}
		}
	}
}
