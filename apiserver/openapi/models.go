package openapi

import (
	"encoding/json"
	"fmt"

	"k8s.io/kube-openapi/pkg/validation/spec"
)

// Models are the schemas of a group version ("apis/apps/v1") by name, for what
// works with them: the managed fields of kinds that client-go does not know.
func (o *OpenAPI) Models(path string) (map[string]*spec.Schema, error) {
	text, err := o.view().v3(path, false)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Components struct {
			Schemas map[string]*spec.Schema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("the schemas of %s: %w", path, err)
	}
	return doc.Components.Schemas, nil
}
