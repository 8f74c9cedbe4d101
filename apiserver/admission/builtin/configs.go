package builtin

import (
	"fmt"
	"os"
	"path/filepath"

	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"
)

// ReadConfigs reads the plugins' configurations from an AdmissionConfiguration,
// which holds each or names its file; no file is none.
func ReadConfigs(file string) (map[string][]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("admission configuration: %w", err)
	}
	var c apiserverv1.AdmissionConfiguration
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return nil, fmt.Errorf("admission configuration %s: %w", file, err)
	}
	if c.Kind != "AdmissionConfiguration" || c.APIVersion != apiserverv1.SchemeGroupVersion.String() {
		return nil, fmt.Errorf("admission configuration %s: kind %q of %q: want AdmissionConfiguration of %s", file, c.Kind, c.APIVersion, apiserverv1.SchemeGroupVersion)
	}
	out := map[string][]byte{}
	for i, p := range c.Plugins {
		switch {
		case out[p.Name] != nil:
			return nil, fmt.Errorf("admission configuration %s: plugins[%d].name: Duplicate value: %q", file, i, p.Name)
		case p.Configuration != nil:
			out[p.Name] = p.Configuration.Raw
		case p.Path != "":
			path := p.Path
			if !filepath.IsAbs(path) {
				path = filepath.Join(filepath.Dir(file), path)
			}
			if out[p.Name], err = os.ReadFile(path); err != nil {
				return nil, fmt.Errorf("admission configuration %s: plugins[%d].path: %w", file, i, err)
			}
		}
	}
	return out, nil
}
