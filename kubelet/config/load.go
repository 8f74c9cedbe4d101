package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	tracingapi "k8s.io/component-base/tracing/api/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"skiff/cluster/featuregates"
)

// What memorySwap.swapBehavior can be; an empty one is NoSwap.
const (
	NoSwap      = "NoSwap"
	LimitedSwap = "LimitedSwap"
)

// Load reads the file, lays the *.conf files of the drop-in folder over it in
// the order of their names and the fields of over on top, fills in defaults and
// checks the result. Each may be empty.
func Load(file, dropIns string, over map[string]any) (*kubeletv1beta1.KubeletConfiguration, error) {
	merged := map[string]any{}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("failed to load kubelet config file, path: %s, error: %w", file, err)
		}
		if merged, err = decode(data, file); err != nil {
			return nil, err
		}
	}
	if dropIns != "" {
		var names []string
		err := filepath.WalkDir(dropIns, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, ".conf") {
				names = append(names, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("failed to merge kubelet configs: %w", err)
		}
		slices.Sort(names)
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("failed to merge kubelet configs: %w", err)
			}
			over, err := decode(data, name)
			if err != nil {
				return nil, err
			}
			Merge(merged, over)
		}
	}
	Merge(merged, over)
	data, err := yaml.Marshal(merged)
	if err != nil {
		return nil, err
	}
	return Parse(data)
}

// Parse reads one document; an empty one means all defaults.
func Parse(data []byte) (*kubeletv1beta1.KubeletConfiguration, error) {
	c := &kubeletv1beta1.KubeletConfiguration{}
	if err := strictly(data, c); err != nil {
		return nil, fmt.Errorf("KubeletConfiguration: %w", err)
	}
	SetDefaults(c)
	return c, Validate(c)
}

// decode checks one file strictly by itself, so that an error names the file.
func decode(data []byte, name string) (map[string]any, error) {
	c := &kubeletv1beta1.KubeletConfiguration{}
	if err := strictly(data, c); err != nil {
		return nil, fmt.Errorf("failed to load kubelet config file %s: %w", name, err)
	}
	if c.Kind != "" && c.Kind != "KubeletConfiguration" || c.APIVersion != "" && c.APIVersion != "kubelet.config.k8s.io/v1beta1" {
		return nil, fmt.Errorf("kubelet config file %s: apiVersion %q, kind %q: want kubelet.config.k8s.io/v1beta1, KubeletConfiguration", name, c.APIVersion, c.Kind)
	}
	out := map[string]any{}
	if err := yaml.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("kubelet config file %s: %w", name, err)
	}
	return out, nil
}

// strictly reads YAML or JSON. A field that is there twice, is unknown or is
// written with other capital letters than its own is an error.
func strictly(data []byte, into any) error {
	plain, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return err
	}
	unknown, err := json.UnmarshalStrict(plain, into)
	if err != nil {
		return err
	}
	return errors.Join(unknown...)
}

// Merge lays the fields of src over those of dst; maps are merged, lists replaced.
func Merge(dst, src map[string]any) {
	for k, v := range src {
		over, isMap := v.(map[string]any)
		if under, ok := dst[k].(map[string]any); ok && isMap {
			Merge(under, over)
			continue
		}
		dst[k] = v
	}
}

// Validate reports what the kubelet could not work with, all at once.
func Validate(c *kubeletv1beta1.KubeletConfiguration) error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("invalid configuration: "+format, args...))
	}
	if c.Port < 1 || c.Port > 65535 {
		bad("port (--port) %v must be between 1 and 65535, inclusive", c.Port)
	}
	if *c.HealthzPort < 0 || *c.HealthzPort > 65535 {
		bad("healthzPort (--healthz-port) %v must be between 1 and 65535, inclusive", *c.HealthzPort)
	}
	if c.MaxPods < 0 {
		bad("maxPods (--max-pods) %v must not be a negative number", c.MaxPods)
	}
	if *c.ImageGCHighThresholdPercent < 0 || *c.ImageGCHighThresholdPercent > 100 {
		bad("imageGCHighThresholdPercent (--image-gc-high-threshold) %v must be between 0 and 100, inclusive", *c.ImageGCHighThresholdPercent)
	}
	if *c.ImageGCLowThresholdPercent >= *c.ImageGCHighThresholdPercent {
		bad("imageGCLowThresholdPercent (--image-gc-low-threshold) %v must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) %v", *c.ImageGCLowThresholdPercent, *c.ImageGCHighThresholdPercent)
	}
	if c.NodeLeaseDurationSeconds <= 0 {
		bad("nodeLeaseDurationSeconds must be greater than 0")
	}
	if *c.ContainerLogMaxFiles <= 1 {
		bad("containerLogMaxFiles must be greater than 1")
	}
	if c.CgroupDriver != "cgroupfs" && c.CgroupDriver != "systemd" {
		bad("cgroupDriver %q: want cgroupfs or systemd", c.CgroupDriver)
	}
	for _, p := range []struct {
		name string
		time time.Duration
	}{{"shutdownGracePeriod", c.ShutdownGracePeriod.Duration}, {"shutdownGracePeriodCriticalPods", c.ShutdownGracePeriodCriticalPods.Duration}} {
		if p.time < 0 || p.time > 0 && p.time < time.Second {
			bad("%s %v must be either zero or otherwise >= 1 sec", p.name, p.time)
		}
	}
	if len(c.ShutdownGracePeriodByPodPriority) > 0 && (c.ShutdownGracePeriod.Duration != 0 || c.ShutdownGracePeriodCriticalPods.Duration != 0) {
		bad("Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time")
	}
	if c.ShutdownGracePeriodCriticalPods.Duration > c.ShutdownGracePeriod.Duration {
		bad("shutdownGracePeriodCriticalPods %v must be <= shutdownGracePeriod %v", c.ShutdownGracePeriodCriticalPods.Duration, c.ShutdownGracePeriod.Duration)
	}
	if b := c.MemorySwap.SwapBehavior; b != "" && b != NoSwap && b != LimitedSwap {
		bad("memorySwap.swapBehavior %q must be one of: \"\", %q or %q", b, LimitedSwap, NoSwap)
	}
	for _, v := range c.EnforceNodeAllocatable {
		if !slices.Contains([]string{"pods", "system-reserved", "kube-reserved", "none"}, v) {
			bad("option %q specified for enforceNodeAllocatable (--enforce-node-allocatable). Valid options are \"pods\", \"system-reserved\", \"kube-reserved\", or \"none\"", v)
		}
	}
	if err := featuregates.Check(c.FeatureGates); err != nil {
		bad("featureGates: %w", err)
	}
	validatePinning(c, bad)
	validateVerification(c, bad)
	validateServing(c, bad)
	if err := tracingapi.ValidateTracingConfiguration(c.Tracing, nil, field.NewPath("tracing")).ToAggregate(); err != nil {
		bad("%w", err)
	}
	return errors.Join(errs...)
}
