package vapstatus

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/openapi"
)

// schemas are the types that the API server publishes. It lives for one check, so
// that a kind that came or changed since the last one is seen.
type schemas struct {
	get       func(ctx context.Context, path string) ([]byte, error)
	documents map[schema.GroupVersion]document
	served    map[schema.GroupVersion]map[string]string
}

func newSchemas(get func(ctx context.Context, path string) ([]byte, error)) *schemas {
	return &schemas{get: get, documents: map[schema.GroupVersion]document{}, served: map[schema.GroupVersion]map[string]string{}}
}

// resources are the kinds of the resources of a version, without subresources.
func (s *schemas) resources(ctx context.Context, gv schema.GroupVersion) (map[string]string, error) {
	if kinds, ok := s.served[gv]; ok {
		return kinds, nil
	}
	var list metav1.APIResourceList
	if err := s.decode(ctx, pathOf(gv), &list); err != nil {
		return nil, err
	}
	kinds := map[string]string{}
	for _, r := range list.APIResources {
		if !strings.Contains(r.Name, "/") {
			kinds[r.Name] = r.Kind
		}
	}
	s.served[gv] = kinds
	return kinds, nil
}

// decl is the type of a kind's objects under the name that expressions know it
// by; nil where none is published.
func (s *schemas) decl(ctx context.Context, kind schema.GroupVersionKind, name string) (*cel.DeclType, error) {
	gv := kind.GroupVersion()
	doc, ok := s.documents[gv]
	if !ok {
		var text struct{ Components struct{ Schemas document } }
		if err := s.decode(ctx, "/openapi/v3"+pathOf(gv), &text); err != nil {
			return nil, err
		}
		doc = text.Components.Schemas
		s.documents[gv] = doc
	}
	full, err := doc.of(kind)
	if err != nil {
		return nil, fmt.Errorf("reading the schema of %v: %w", kind, err)
	}
	if full == nil {
		return nil, nil
	}
	decl := openapi.SchemaDeclType(full, true)
	if decl == nil {
		return nil, nil
	}
	return decl.MaybeAssignTypeName(name), nil
}

// decode reads the JSON at path; what is not there leaves into as it is.
func (s *schemas) decode(ctx context.Context, path string, into any) error {
	text, err := s.get(ctx, path)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

func pathOf(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.Group + "/" + gv.Version
}

// groupVersionKind are the kinds that a schema is for.
type groupVersionKind struct {
	Kinds []metav1.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
}

func (g groupVersionKind) has(k schema.GroupVersionKind) bool {
	return slices.Contains(g.Kinds, metav1.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind})
}
