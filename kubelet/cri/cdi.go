package cri

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// cdiAnnotations is how older clients name CDI devices.
const cdiAnnotations = "cdi.k8s.io/"

// cdiDevices are the names of the CDI devices that a container asks for, each
// once, in order.
func cdiDevices(cfg *runtimeapi.ContainerConfig) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	add := func(names ...string) {
		for _, n := range names {
			if n != "" && !seen[n] {
				seen[n] = true
				out = append(out, n)
			}
		}
	}
	for _, d := range cfg.CDIDevices {
		add(d.Name)
	}
	_, names, err := cdi.ParseAnnotations(cfg.Annotations)
	if err != nil {
		return nil, fmt.Errorf("annotations %s*: %w", cdiAnnotations, err)
	}
	add(names...)
	return out, nil
}

// injectCDI makes the changes that the descriptions of CDI devices ask for. The
// descriptions are read anew each time: drivers write them just before a
// container that needs them is made.
func injectCDI(spec *specs.Spec, cfg *runtimeapi.ContainerConfig, dirs []string) error {
	names, err := cdiDevices(cfg)
	if err != nil || len(names) == 0 {
		return err
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return fmt.Errorf("read the CDI device descriptions of %v: %w", dirs, err)
	}
	if _, err := cache.InjectDevices(spec, names...); err != nil {
		// A description that cannot be read is why a device is unknown.
		for file, errs := range cache.GetErrors() {
			err = fmt.Errorf("%w; %s: %v", err, file, errs)
		}
		return fmt.Errorf("CDI device injection failed: %w", err)
	}
	return nil
}
