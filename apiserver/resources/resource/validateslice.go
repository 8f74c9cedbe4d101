package resource

import (
	"context"
	"slices"
	"strings"

	v1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
)

func validateSlice(ctx context.Context, o, old *v1.ResourceSlice) field.ErrorList {
	var was *v1.ResourceSliceSpec
	if old != nil {
		was = &old.Spec
	}
	s := &o.Spec
	errs := resources.Declared(ctx, v1.Validate_ResourceSliceSpec, specPath, s, was, partitionTypes)
	if old != nil {
		errs = append(errs, apivalidation.ValidateImmutableField(s.Driver, was.Driver, specPath.Child("driver"))...)
		errs = append(errs, apivalidation.ValidateImmutableField(s.Pool.Name, was.Pool.Name, specPath.Child("pool", "name"))...)
		errs = append(errs, apivalidation.ValidateImmutableField(s.NodeName, was.NodeName, specPath.Child("nodeName"))...)
	}
	errs = append(errs, podspec.CSIDriverName(s.Driver, specPath.Child("driver"))...)
	errs = append(errs, poolName(s.Pool.Name, specPath.Child("pool", "name"))...)
	if n := s.Pool.ResourceSliceCount; n <= 0 {
		errs = append(errs, field.Invalid(specPath.Child("pool", "resourceSliceCount"), n, "must be greater than zero"))
	}
	if n := s.Pool.Generation; n < 0 {
		errs = append(errs, field.Invalid(specPath.Child("pool", "generation"), n, "must be greater than or equal to zero"))
	}
	perDevice := ptr.Deref(s.PerDeviceNodeSelection, false)
	errs = append(errs, where(s, perDevice)...)
	if s.Devices != nil && s.SharedCounters != nil {
		errs = append(errs, field.Invalid(specPath, "", "only one of `sharedCounters` or `devices` is allowed"))
	}
	errs = append(errs, devices(s, was, perDevice)...)
	return append(errs, skipped(s.SkipNodeOperations, specPath.Child("skipNodeOperations"))...)
}

// devices checks those of a slice; what of a device stays as it was is let be.
func devices(s, was *v1.ResourceSliceSpec, perDevice bool) field.ErrorList {
	at := specPath.Child("devices")
	most := v1.ResourceSliceMaxDevices
	if slices.ContainsFunc(s.Devices, advanced) {
		most = v1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	if n := len(s.Devices); n > most {
		return field.ErrorList{field.TooMany(at, n, most)}
	}
	before := map[string]*v1.Device{}
	if was != nil {
		for i := range was.Devices {
			before[was.Devices[i].Name] = &was.Devices[i]
		}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	for i := range s.Devices {
		d, at := &s.Devices[i], at.Index(i)
		errs = append(errs, label(d.Name, at.Child("name"))...)
		errs = append(errs, device(d, before[d.Name], perDevice, at)...)
		if seen[d.Name] {
			errs = append(errs, field.Duplicate(at, d.Name))
		}
		seen[d.Name] = true
	}
	return errs
}

// advanced is whether a slice with such a device may have fewer of them.
func advanced(d v1.Device) bool { return len(d.Taints) > 0 || len(d.ConsumesCounters) > 0 }

// skipped refuses to leave out the preparation of devices alone.
func skipped(list []v1.SkipNodeOperation, at *field.Path) field.ErrorList {
	prepare := slices.Contains(list, v1.SkipNodeOperationNodePrepareResources)
	if prepare && !slices.Contains(list, v1.SkipNodeOperationNodeUnprepareResources) && !slices.Contains(list, v1.SkipNodeOperationAll) {
		return field.ErrorList{field.Invalid(at, list, "NodePrepareResources cannot be skipped unless NodeUnprepareResources is also skipped")}
	}
	return nil
}

// where demands one way of saying which nodes have the devices.
func where(s *v1.ResourceSliceSpec, perDevice bool) field.ErrorList {
	const ways = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	var errs field.ErrorList
	var set []string
	if s.NodeName != nil {
		set = append(set, "`nodeName`")
		errs = append(errs, dnsName(*s.NodeName, specPath.Child("nodeName"))...)
	}
	if s.NodeSelector != nil {
		set = append(set, "`nodeSelector`")
		at := specPath.Child("nodeSelector")
		errs = append(errs, podspec.ValidateNodeSelector(s.NodeSelector, at)...)
		if len(s.NodeSelector.NodeSelectorTerms) != 1 {
			errs = append(errs, field.Invalid(at.Child("nodeSelectorTerms"), s.NodeSelector.NodeSelectorTerms, "must have exactly one node selector term"))
		}
	}
	for _, flag := range []struct {
		name string
		on   *bool
	}{{"allNodes", s.AllNodes}, {"perDeviceNodeSelection", s.PerDeviceNodeSelection}} {
		if flag.on == nil {
			continue
		}
		if *flag.on {
			set = append(set, "`"+flag.name+"`")
		} else {
			errs = append(errs, field.Invalid(specPath.Child(flag.name), false, "must be either unset or set to true"))
		}
	}
	switch {
	case len(set) == 0:
		errs = append(errs, field.Required(specPath, ways))
	case len(set) > 1:
		errs = append(errs, field.Invalid(specPath, "{"+strings.Join(set, ", ")+"}", ways+", but multiple fields are set"))
	}
	return errs
}

func taint(t *v1.DeviceTaint, at *field.Path) field.ErrorList {
	if t.Key == "" {
		return append(field.ErrorList{field.Required(at.Child("key"), "")}, labelValue(t.Value, at.Child("value"))...)
	}
	errs := unversioned.ValidateLabelName(t.Key, at.Child("key"))
	return append(errs, labelValue(t.Value, at.Child("value"))...)
}

func validateTaintRule(ctx context.Context, o, old *v1.DeviceTaintRule) field.ErrorList {
	var was *v1.DeviceTaintRuleSpec
	if old != nil {
		was = &old.Spec
	}
	errs := resources.Declared(ctx, v1.Validate_DeviceTaintRuleSpec, specPath, &o.Spec, was, partitionTypes)
	if s := o.Spec.DeviceSelector; s != nil {
		at := specPath.Child("deviceSelector")
		if s.Driver != nil {
			errs = append(errs, podspec.CSIDriverName(*s.Driver, at.Child("driver"))...)
		}
		if s.Pool != nil {
			errs = append(errs, poolName(*s.Pool, at.Child("pool"))...)
		}
		if s.Device != nil {
			errs = append(errs, requestName(*s.Device, map[string]bool{}, at.Child("device"))...)
		}
	}
	return append(errs, taint(&o.Spec.Taint, specPath.Child("taint"))...)
}
