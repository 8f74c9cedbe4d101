package resource

import (
	"context"
	"encoding/json"
	"strings"

	v1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/environment"
	dracel "k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
)

var specPath, statusPath = field.NewPath("spec"), field.NewPath("status")

// partitionTypes is a feature that is off, and that the shipped rules ask about.
const partitionTypes = "DRAPartitionableDevicesType"

const immutable = "field is immutable"

func validateClass(ctx context.Context, o, old *v1.DeviceClass) field.ErrorList {
	var was *v1.DeviceClassSpec
	if old != nil {
		was = &old.Spec
	}
	errs := resources.Declared(ctx, v1.Validate_DeviceClassSpec, specPath, &o.Spec, was, partitionTypes)
	errs = append(errs, selectors(o.Spec.Selectors, specPath.Child("selectors"))...)
	for i, c := range o.Spec.Config {
		errs = append(errs, deviceConfiguration(&c.DeviceConfiguration, specPath.Child("config").Index(i))...)
	}
	return errs
}

func validateClaim(ctx context.Context, o, old *v1.ResourceClaim) field.ErrorList {
	if old == nil {
		return claimSpec(ctx, &o.Spec, nil, specPath)
	}
	errs := apivalidation.ValidateImmutableField(o.Spec, old.Spec, specPath)
	return append(errs, claimSpec(ctx, &o.Spec, &old.Spec, specPath)...)
}

func validateTemplate(ctx context.Context, o, old *v1.ResourceClaimTemplate) field.ErrorList {
	at := specPath.Child("spec")
	errs := unversioned.ValidateLabels(o.Spec.Labels, specPath.Child("metadata", "labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(o.Spec.Annotations, specPath.Child("metadata", "annotations"))...)
	if old == nil {
		return append(errs, claimSpec(ctx, &o.Spec.Spec, nil, at)...)
	}
	errs = append(errs, apivalidation.ValidateImmutableField(o.Spec, old.Spec, specPath)...)
	return append(errs, claimSpec(ctx, &o.Spec.Spec, &old.Spec.Spec, at)...)
}

func claimSpec(ctx context.Context, s, old *v1.ResourceClaimSpec, at *field.Path) field.ErrorList {
	errs := resources.Declared(ctx, v1.Validate_ResourceClaimSpec, at, s, old, partitionTypes)
	at = at.Child("devices")
	names := requestNames(s.Devices.Requests)
	seen := map[string]bool{}
	for i := range s.Devices.Requests {
		r, at := &s.Devices.Requests[i], at.Child("requests").Index(i)
		errs = append(errs, requestName(r.Name, seen, at.Child("name"))...)
		switch {
		case r.Exactly == nil && len(r.FirstAvailable) == 0:
			errs = append(errs, field.Required(at, "exactly one of `exactly` or `firstAvailable` is required"))
		case r.Exactly != nil && len(r.FirstAvailable) > 0:
			errs = append(errs, field.Invalid(at, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"))
		case r.Exactly != nil:
			e, at := r.Exactly, at.Child("exactly")
			errs = append(errs, deviceRequest(e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations, at)...)
		}
		if r.Exactly != nil {
			continue
		}
		subs := map[string]bool{}
		for j, sub := range r.FirstAvailable {
			at := at.Child("firstAvailable").Index(j)
			errs = append(errs, requestName(sub.Name, subs, at.Child("name"))...)
			errs = append(errs, deviceRequest(sub.DeviceClassName, sub.Selectors, sub.AllocationMode, sub.Count, sub.Tolerations, at)...)
		}
	}
	for i, c := range s.Devices.Constraints {
		at := at.Child("constraints").Index(i)
		errs = append(errs, known(c.Requests, names, at.Child("requests"))...)
		if c.MatchAttribute != nil {
			errs = append(errs, attributeName(string(*c.MatchAttribute), at.Child("matchAttribute"))...)
		}
		if c.DistinctAttribute != nil {
			errs = append(errs, attributeName(string(*c.DistinctAttribute), at.Child("distinctAttribute"))...)
		}
		if c.MatchAttribute == nil && c.DistinctAttribute == nil {
			errs = append(errs, field.Required(at, "exactly one of `matchAttribute` or `distinctAttribute` is required"))
		}
	}
	for i, c := range s.Devices.Config {
		at := at.Child("config").Index(i)
		errs = append(errs, known(c.Requests, names, at.Child("requests"))...)
		errs = append(errs, deviceConfiguration(&c.DeviceConfiguration, at)...)
	}
	return errs
}

// label is the name of one of a list's items.
func label(name string, at *field.Path) field.ErrorList {
	return requestName(name, map[string]bool{}, at)
}

func requestName(name string, seen map[string]bool, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Label(name) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	if seen[name] {
		errs = append(errs, field.Duplicate(at, name))
	}
	seen[name] = true
	return errs
}

// requestNames are the names that constraints and configurations may speak of.
func requestNames(list []v1.DeviceRequest) map[string]bool {
	out := map[string]bool{}
	for _, r := range list {
		out[r.Name] = true
		for _, sub := range r.FirstAvailable {
			out[r.Name+"/"+sub.Name] = true
		}
	}
	return out
}

func known(list []string, names map[string]bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, name := range list {
		if !names[name] {
			errs = append(errs, field.Invalid(at.Index(i), name, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
		}
	}
	return errs
}

func deviceRequest(class string, list []v1.DeviceSelector, mode v1.DeviceAllocationMode, count int64, tolerations []v1.DeviceToleration, at *field.Path) field.ErrorList {
	errs := dnsName(class, at.Child("deviceClassName"))
	errs = append(errs, selectors(list, at.Child("selectors"))...)
	switch mode {
	case v1.DeviceAllocationModeAll:
		if count != 0 {
			errs = append(errs, field.Invalid(at.Child("count"), count, "must not be specified when allocationMode is 'All'"))
		}
	case v1.DeviceAllocationModeExactCount:
		if count <= 0 {
			errs = append(errs, field.Invalid(at.Child("count"), count, "must be greater than zero"))
		}
	}
	for i, t := range tolerations {
		at := at.Child("tolerations").Index(i)
		switch {
		case t.Operator == v1.DeviceTolerationOpExists && t.Value != "":
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be empty for operator `Exists`"))
		case t.Operator == v1.DeviceTolerationOpEqual:
			errs = append(errs, labelValue(t.Value, at.Child("value"))...)
		}
	}
	return errs
}

func labelValue(text string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsValidLabelValue(text) {
		errs = append(errs, field.Invalid(at, text, msg))
	}
	return errs
}

func dnsName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Subdomain(name) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
}

// selectors compiles what devices are picked by, and bounds what it may cost.
func selectors(list []v1.DeviceSelector, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range list {
		at := at.Index(i).Child("cel")
		if s.CEL == nil {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		text, at := s.CEL.Expression, at.Child("expression")
		if len(text) > v1.CELSelectorExpressionMaxLength {
			errs = append(errs, field.TooLong(at, "", v1.CELSelectorExpressionMaxLength))
			continue
		}
		result := dracel.GetCompiler(dracel.Features{EnableConsumableCapacity: true}).CompileCELExpression(text, dracel.Options{EnvType: ptr.To(environment.StoredExpressions)})
		if result.Error != nil {
			errs = append(errs, field.Invalid(at, text, result.Error.Detail))
		} else if result.MaxCost > v1.CELSelectorExpressionMaxCost {
			errs = append(errs, field.Forbidden(at, "too complex, exceeds cost limit"))
		}
	}
	return errs
}

// attributeName is DOMAIN/NAME.
func attributeName(name string, at *field.Path) field.ErrorList {
	domain, id, ok := strings.Cut(name, "/")
	if !ok {
		return field.ErrorList{field.Invalid(at, name, "must include a domain")}
	}
	return qualified(domain, id, at)
}

func qualified(domain, id string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case domain == "":
		errs = append(errs, field.Required(at, "the domain must not be empty"))
	case len(domain) > v1.DeviceMaxDomainLength:
		errs = append(errs, field.TooLong(at, "", v1.DeviceMaxDomainLength))
	default:
		for _, msg := range validation.IsDNS1123Subdomain(domain) {
			errs = append(errs, field.Invalid(at, domain, msg))
		}
	}
	return append(errs, identifier(id, at)...)
}

func identifier(id string, at *field.Path) field.ErrorList {
	switch {
	case id == "":
		return field.ErrorList{field.Required(at, "the name must not be empty")}
	case len(id) > v1.DeviceMaxIDLength:
		return field.ErrorList{field.TooLong(at, "", v1.DeviceMaxIDLength)}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsCIdentifier(id) {
		errs = append(errs, field.Invalid(at, id, msg))
	}
	return errs
}

func deviceConfiguration(c *v1.DeviceConfiguration, at *field.Path) field.ErrorList {
	at = at.Child("opaque")
	if c.Opaque == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := podspec.CSIDriverName(c.Opaque.Driver, at.Child("driver"))
	return append(errs, rawObject(&c.Opaque.Parameters, at.Child("parameters"), true)...)
}

// rawObject is JSON of a driver's own making.
func rawObject(raw *runtime.RawExtension, at *field.Path, needed bool) field.ErrorList {
	var v any
	switch {
	case raw == nil || len(raw.Raw) == 0:
		if !needed {
			return nil
		}
		return field.ErrorList{field.Required(at, "")}
	case len(raw.Raw) > v1.OpaqueParametersMaxLength:
		return field.ErrorList{field.TooLong(at, "", v1.OpaqueParametersMaxLength)}
	case json.Unmarshal(raw.Raw, &v) != nil:
		return field.ErrorList{field.Invalid(at, "<value omitted>", "error parsing data as JSON")}
	case v == nil:
		return field.ErrorList{field.Required(at, "")}
	}
	if _, ok := v.(map[string]any); !ok {
		return field.ErrorList{field.Invalid(at, "<value omitted>", "must be a valid JSON object")}
	}
	return nil
}

// validateClaimStatus is about what schedulers and drivers say of a claim.
func validateClaimStatus(ctx context.Context, o, old *v1.ResourceClaim) field.ErrorList {
	errs := resources.Declared(ctx, v1.Validate_ResourceClaimStatus, statusPath, &o.Status, &old.Status, partitionTypes)
	s, was := &o.Status, &old.Status
	at := statusPath.Child("reservedFor")
	if len(s.ReservedFor) > 0 {
		if s.Allocation == nil {
			errs = append(errs, field.Forbidden(at, "may not be specified when `allocated` is not set"))
		}
		if o.DeletionTimestamp != nil && len(s.ReservedFor) > len(was.ReservedFor) {
			errs = append(errs, field.Forbidden(at, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
		}
	}
	for i, r := range s.ReservedFor {
		at := at.Index(i)
		for name, value := range map[string]string{"resource": r.Resource, "name": r.Name, "uid": string(r.UID)} {
			if value == "" {
				errs = append(errs, field.Required(at.Child(name), ""))
			}
		}
	}
	if a := s.Allocation; a != nil {
		at := statusPath.Child("allocation")
		if was.Allocation != nil && !equality.Semantic.DeepEqual(a, was.Allocation) {
			errs = append(errs, field.Invalid(at, a, immutable))
		}
		errs = append(errs, allocation(a, requestNames(o.Spec.Devices.Requests), at)...)
	}
	for i, d := range s.Devices {
		at := statusPath.Child("devices").Index(i)
		errs = append(errs, podspec.CSIDriverName(d.Driver, at.Child("driver"))...)
		errs = append(errs, poolName(d.Pool, at.Child("pool"))...)
		errs = append(errs, requestName(d.Device, map[string]bool{}, at.Child("device"))...)
		if d.Data != nil {
			errs = append(errs, rawObject(d.Data, at.Child("data"), false)...)
		}
		if !allocated(s.Allocation, &d) {
			errs = append(errs, field.Invalid(at, d.Device, "must be an allocated device in the claim"))
		}
	}
	return errs
}

func allocated(a *v1.AllocationResult, d *v1.AllocatedDeviceStatus) bool {
	if a == nil {
		return false
	}
	for _, r := range a.Devices.Results {
		if r.Driver == d.Driver && r.Pool == d.Pool && r.Device == d.Device && (d.ShareID == nil || r.ShareID != nil && string(*r.ShareID) == *d.ShareID) {
			return true
		}
	}
	return false
}

func allocation(a *v1.AllocationResult, names map[string]bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, r := range a.Devices.Results {
		at := at.Child("devices", "results").Index(i)
		errs = append(errs, known([]string{r.Request}, names, at.Child("request"))...)
		errs = append(errs, podspec.CSIDriverName(r.Driver, at.Child("driver"))...)
		errs = append(errs, poolName(r.Pool, at.Child("pool"))...)
		errs = append(errs, requestName(r.Device, map[string]bool{}, at.Child("device"))...)
	}
	for i, c := range a.Devices.Config {
		at := at.Child("devices", "config").Index(i)
		errs = append(errs, known(c.Requests, names, at.Child("requests"))...)
		errs = append(errs, deviceConfiguration(&c.DeviceConfiguration, at)...)
	}
	if a.NodeSelector != nil {
		errs = append(errs, podspec.ValidateNodeSelector(a.NodeSelector, at.Child("nodeSelector"))...)
		if n := len(a.NodeSelector.NodeSelectorTerms); n != 1 {
			errs = append(errs, field.Invalid(at.Child("nodeSelector", "nodeSelectorTerms"), a.NodeSelector.NodeSelectorTerms, "must have exactly one node selector term"))
		}
	}
	return errs
}

// poolName is DNS names, separated by slashes.
func poolName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	if len(name) > v1.PoolNameMaxLength {
		return field.ErrorList{field.TooLong(at, "", v1.PoolNameMaxLength)}
	}
	var errs field.ErrorList
	for _, part := range strings.Split(name, "/") {
		for _, msg := range validation.IsDNS1123Subdomain(part) {
			errs = append(errs, field.Invalid(at, part, msg))
		}
	}
	return errs
}
