package resource

import (
	"context"
	"fmt"
	"strings"

	v1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
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
	most, counted := v1.ResourceSliceMaxDevices, false
	for i := range s.Devices {
		counted = counted || len(s.Devices[i].Taints) > 0 || len(s.Devices[i].ConsumesCounters) > 0
	}
	if counted {
		most = v1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	if n := len(s.Devices); n > most {
		errs = append(errs, field.TooMany(specPath.Child("devices"), n, most))
	}
	if len(s.Devices) > 0 && len(s.SharedCounters) > 0 {
		errs = append(errs, field.Invalid(specPath, "{`devices`, `sharedCounters`}", "only one of `devices` or `sharedCounters` is allowed"))
	}
	seen := map[string]bool{}
	for i := range s.Devices {
		d, at := &s.Devices[i], specPath.Child("devices").Index(i)
		errs = append(errs, requestName(d.Name, seen, at.Child("name"))...)
		errs = append(errs, device(d, perDevice, at)...)
	}
	sets := map[string]bool{}
	for i, c := range s.SharedCounters {
		at := specPath.Child("sharedCounters").Index(i)
		errs = append(errs, requestName(c.Name, sets, at.Child("name"))...)
		for name, counter := range c.Counters {
			at := at.Child("counters").Key(name)
			for _, msg := range validation.IsDNS1123Label(name) {
				errs = append(errs, field.Invalid(at, name, msg))
			}
			errs = append(errs, podspec.NonNegative(counter.Value, at.Child("value"))...)
		}
	}
	return errs
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

func device(d *v1.Device, perDevice bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := len(d.Attributes) + len(d.Capacity); n > v1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(at, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", v1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
	}
	for name, a := range d.Attributes {
		at := at.Child("attributes").Key(string(name))
		errs = append(errs, localName(string(name), at)...)
		if v := a.StringValue; v != nil && len(*v) > v1.DeviceAttributeMaxValueLength {
			errs = append(errs, field.TooLong(at.Child("string"), *v, v1.DeviceAttributeMaxValueLength))
		}
	}
	for name := range d.Capacity {
		errs = append(errs, localName(string(name), at.Child("capacity").Key(string(name)))...)
	}
	for i, t := range d.Taints {
		errs = append(errs, taint(&t, at.Child("taints").Index(i))...)
	}
	if !perDevice {
		for name, set := range map[string]bool{"nodeName": d.NodeName != nil, "nodeSelector": d.NodeSelector != nil, "allNodes": d.AllNodes != nil} {
			if set {
				errs = append(errs, field.Invalid(at.Child(name), "", "can only be specified if `perDeviceNodeSelection` is set to true"))
			}
		}
	} else {
		n := 0
		if d.NodeName != nil {
			n++
			errs = append(errs, dnsName(*d.NodeName, at.Child("nodeName"))...)
		}
		if d.NodeSelector != nil {
			n++
			errs = append(errs, podspec.ValidateNodeSelector(d.NodeSelector, at.Child("nodeSelector"))...)
		}
		if d.AllNodes != nil {
			n++
			if !*d.AllNodes {
				errs = append(errs, field.Invalid(at.Child("allNodes"), false, "must be either unset or set to true"))
			}
		}
		const ways = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
		if n == 0 {
			errs = append(errs, field.Required(at, ways))
		} else if n > 1 {
			errs = append(errs, field.Invalid(at, "", ways))
		}
	}
	sets := map[string]bool{}
	for i, c := range d.ConsumesCounters {
		at := at.Child("consumesCounters").Index(i)
		errs = append(errs, requestName(c.CounterSet, sets, at.Child("counterSet"))...)
		for name, counter := range c.Counters {
			errs = append(errs, podspec.NonNegative(counter.Value, at.Child("counters").Key(name).Child("value"))...)
		}
	}
	return errs
}

// localName is NAME of the driver's own domain, or DOMAIN/NAME.
func localName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "name required")}
	}
	domain, id, ok := strings.Cut(name, "/")
	if !ok {
		return identifier(name, at)
	}
	return qualified(domain, id, at)
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
