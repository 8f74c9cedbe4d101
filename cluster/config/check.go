package config

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// Check reads a file with documents of any of the kinds and validates each with
// its defaults. An error is about the file, the list about what it says.
func Check(path string, f Facts) (field.ErrorList, error) {
	kinds := make(map[string]int)
	var errs field.ErrorList
	err := eachDocument(path, func(meta metav1.TypeMeta, doc []byte) error {
		if meta.APIVersion == OldAPIVersion {
			return fmt.Errorf("apiVersion %s is an old one: run skiff config migrate --old-config %s", OldAPIVersion, path)
		}
		if kinds[meta.Kind]++; kinds[meta.Kind] > 1 {
			return fmt.Errorf("kind %s is there %d times: want one document of each kind", meta.Kind, kinds[meta.Kind])
		}
		switch meta.Kind {
		case JoinKind:
			c := &Join{}
			if err := yaml.UnmarshalStrict(doc, c); err != nil {
				return fmt.Errorf("%s: %w", meta.Kind, err)
			}
			DefaultJoin(c, f)
			errs = append(errs, ValidateJoin(c)...)
		case ResetKind:
			return strict(meta.Kind, doc)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	if kinds[JoinKind]+kinds[ResetKind] > 0 && kinds[InitKind]+kinds[ClusterKind] == 0 {
		return errs, nil
	}
	c, err := loadInit(path, true)
	if err != nil {
		return nil, err
	}
	DefaultInit(c, f)
	return append(errs, ValidateInit(c)...), nil
}
