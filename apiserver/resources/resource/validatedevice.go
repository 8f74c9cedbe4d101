package resource

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	v1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources/podspec"
)

// semver is a version of semver.org's second edition.
var semver = regexp.MustCompile(`^(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
	`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

// device checks one device of a slice; old is the same device as it was, or nil.
func device(d, old *v1.Device, perDevice bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := len(d.Attributes) + len(d.Capacity); n > v1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(at, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", v1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
	}
	for name, a := range d.Attributes {
		at := at.Child("attributes")
		errs = append(errs, localName(string(name), at)...)
		errs = append(errs, attributeValue(&a, at.Key(string(name)))...)
	}
	if old == nil || !equality.Semantic.DeepEqual(old.Capacity, d.Capacity) {
		at, shared := at.Child("capacity"), ptr.Deref(d.AllowMultipleAllocations, false)
		for name, c := range d.Capacity {
			errs = append(errs, localName(string(name), at)...)
			errs = append(errs, requestPolicy(c.RequestPolicy, c.Value, shared, at.Key(string(name)).Child("requestPolicy"))...)
		}
	}
	if old == nil || !equality.Semantic.DeepEqual(old.Taints, d.Taints) {
		errs = append(errs, taints(d.Taints, at.Child("taints"))...)
	}
	errs = append(errs, deviceNodes(d, perDevice, at)...)
	return append(errs, bindingConditions(d.BindingConditions, d.BindingFailureConditions, at)...)
}

func attributeValue(a *v1.DeviceAttribute, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if v := a.StringValue; v != nil && len(*v) > v1.DeviceAttributeMaxValueLength {
		errs = append(errs, field.TooLong(at.Child("string"), "", v1.DeviceAttributeMaxValueLength))
	}
	if v := a.VersionValue; v != nil {
		at := at.Child("version")
		if !semver.MatchString(*v) {
			errs = append(errs, field.Invalid(at, *v, "must be a string compatible with semver.org spec 2.0.0"))
		}
		if len(*v) > v1.DeviceAttributeMaxValueLength {
			errs = append(errs, field.TooLong(at, "", v1.DeviceAttributeMaxValueLength))
		}
	}
	return errs
}

func taints(list []v1.DeviceTaint, at *field.Path) field.ErrorList {
	if n := len(list); n > v1.DeviceTaintsMaxLength {
		return field.ErrorList{field.TooMany(at, n, v1.DeviceTaintsMaxLength)}
	}
	var errs field.ErrorList
	for i := range list {
		errs = append(errs, taint(&list[i], at.Index(i))...)
	}
	return errs
}

// deviceNodes are those that have the device, if its slice leaves it to the devices.
func deviceNodes(d *v1.Device, perDevice bool, at *field.Path) field.ErrorList {
	if !perDevice {
		if d.NodeName != nil || d.NodeSelector != nil || d.AllNodes != nil {
			return field.ErrorList{field.Invalid(at, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec")}
		}
		return nil
	}
	var errs field.ErrorList
	var set []string
	if d.NodeName != nil {
		if *d.NodeName == "" {
			errs = append(errs, field.Invalid(at.Child("nodeName"), "", "must not be empty"))
		} else {
			set = append(set, "`nodeName`")
			errs = append(errs, dnsName(*d.NodeName, at.Child("nodeName"))...)
		}
	}
	if d.NodeSelector != nil {
		set = append(set, "`nodeSelector`")
		errs = append(errs, podspec.ValidateNodeSelector(d.NodeSelector, at.Child("nodeSelector"))...)
	}
	if d.AllNodes != nil {
		if *d.AllNodes {
			set = append(set, "`allNodes`")
		} else {
			errs = append(errs, field.Invalid(at.Child("allNodes"), false, "must be either unset or set to true"))
		}
	}
	const ways = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
	switch {
	case len(set) == 0:
		errs = append(errs, field.Required(at, ways))
	case len(set) > 1:
		errs = append(errs, field.Invalid(at, "{"+strings.Join(set, ", ")+"}", ways))
	}
	return errs
}

// bindingConditions are what a pod waits for before it is bound: those that say that
// the device is ready and those that say that it never will be come together.
func bindingConditions(ready, failed []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name string
		list []string
		most int
	}{
		{"bindingConditions", ready, v1.BindingConditionsMaxSize},
		{"bindingFailureConditions", failed, v1.BindingFailureConditionsMaxSize},
	} {
		at, seen := at.Child(f.name), map[string]bool{}
		for i, name := range f.list {
			// More than there may be are refused by the shipped rules.
			if len(f.list) <= f.most {
				errs = append(errs, unversioned.ValidateLabelName(name, at.Index(i))...)
			}
			if seen[name] {
				errs = append(errs, field.Duplicate(at.Index(i), name))
			}
			seen[name] = true
		}
	}
	for i, name := range failed {
		if slices.Contains(ready, name) {
			errs = append(errs, field.Invalid(at.Child("bindingFailureConditions").Index(i), name, "bindingFailureConditions must not overlap with bindingConditions"))
		}
	}
	switch {
	case len(ready) == 0 && len(failed) > 0:
		errs = append(errs, field.Invalid(at.Child("bindingConditions"), ready, "bindingConditions are required to use bindingFailureConditions"))
	case len(failed) == 0 && len(ready) > 0:
		errs = append(errs, field.Invalid(at.Child("bindingFailureConditions"), failed, "bindingFailureConditions are required to use bindingConditions"))
	}
	return errs
}

// localName is NAME of the driver's own domain, or DOMAIN/NAME. A name of more parts
// is taken as it is.
func localName(name string, at *field.Path) field.ErrorList {
	parts := strings.Split(name, "/")
	switch len(parts) {
	case 1:
		return cIdentifier(name, at)
	case 2:
		var errs field.ErrorList
		if parts[0] == "" {
			errs = append(errs, field.Invalid(at, "", "the domain must not be empty"))
		} else {
			errs = append(errs, podspec.CSIDriverName(parts[0], at)...)
		}
		if parts[1] == "" {
			return append(errs, field.Invalid(at, "", "the name must not be empty"))
		}
		return append(errs, cIdentifier(parts[1], at)...)
	}
	return nil
}

func cIdentifier(id string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(id) > v1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(at, "", v1.DeviceMaxIDLength))
	}
	for _, msg := range validation.IsCIdentifier(id) {
		errs = append(errs, field.Invalid(at, id, msg))
	}
	return errs
}
