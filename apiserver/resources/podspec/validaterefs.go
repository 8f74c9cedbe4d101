package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The fields of a pod that its containers and volumes may read.
var (
	envFields = sets.New("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs")
	volumeFields     = sets.New("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
	readableFields   = envFields.Union(volumeFields)
	readableResource = sets.New("limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory")
)

func fieldRef(r *corev1.ObjectFieldSelector, allowed sets.Set[string], at *field.Path) field.ErrorList {
	if r.APIVersion == "" {
		return field.ErrorList{field.Required(at.Child("apiVersion"), "")}
	}
	if r.FieldPath == "" {
		return field.ErrorList{field.Required(at.Child("fieldPath"), "")}
	}
	if r.APIVersion != "v1" {
		return field.ErrorList{field.Invalid(at.Child("fieldPath"), r.FieldPath, "error converting fieldPath: unsupported pod version: "+r.APIVersion)}
	}
	base, key, subscripted := subscript(r.FieldPath)
	if !subscripted {
		if !readableFields.Has(r.FieldPath) {
			return field.ErrorList{field.Invalid(at.Child("fieldPath"), r.FieldPath, "error converting fieldPath: field label not supported: "+r.FieldPath)}
		}
		if !allowed.Has(r.FieldPath) {
			return field.ErrorList{field.NotSupported(at.Child("fieldPath"), r.FieldPath, sets.List(allowed))}
		}
		return nil
	}
	var errs field.ErrorList
	switch base {
	case "metadata.annotations":
		for _, msg := range validation.IsQualifiedName(strings.ToLower(key)) {
			errs = append(errs, field.Invalid(at, key, msg))
		}
	case "metadata.labels":
		for _, msg := range validation.IsQualifiedName(key) {
			errs = append(errs, field.Invalid(at, key, msg))
		}
	default:
		errs = append(errs, field.Invalid(at, base, "does not support subscript"))
	}
	return errs
}

// subscript splits metadata.labels['key'].
func subscript(p string) (base, key string, ok bool) {
	i := strings.Index(p, "['")
	if i < 0 || !strings.HasSuffix(p, "']") {
		return p, "", false
	}
	return p[:i], p[i+2 : len(p)-2], true
}

func resourceRef(r *corev1.ResourceFieldSelector, inVolume bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case inVolume && r.ContainerName == "":
		errs = append(errs, field.Required(at.Child("containerName"), ""))
	case r.Resource == "":
		errs = append(errs, field.Required(at.Child("resource"), ""))
	case !readableResource.Has(r.Resource) && !strings.HasPrefix(r.Resource, "limits.hugepages-") && !strings.HasPrefix(r.Resource, "requests.hugepages-"):
		errs = append(errs, field.NotSupported(at.Child("resource"), r.Resource, sets.List(readableResource)))
	}
	return append(errs, divisor(r, at)...)
}

// resizePolicies say what a change of a resource costs.
func (v *validator) resizePolicies(list []corev1.ContainerResizePolicy, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[corev1.ResourceName]()
	for i, p := range list {
		if seen.Has(p.ResourceName) {
			errs = append(errs, field.Duplicate(at.Index(i), p.ResourceName))
		}
		seen.Insert(p.ResourceName)
		errs = append(errs, enum(p.ResourceName, at, corev1.ResourceCPU, corev1.ResourceMemory)...)
		errs = append(errs, enum(p.RestartPolicy, at, corev1.NotRequired, corev1.RestartContainer)...)
		if v.spec.RestartPolicy == corev1.RestartPolicyNever && p.RestartPolicy != corev1.NotRequired {
			errs = append(errs, field.Invalid(at, p.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"))
		}
	}
	return errs
}

// restart are a container's own restart policy and rules.
func restart(c *corev1.Container, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p := c.RestartPolicy; p != nil {
		errs = append(errs, supported(*p, at.Child("restartPolicy"), corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure)...)
	} else if len(c.RestartPolicyRules) > 0 {
		errs = append(errs, field.Required(at.Child("restartPolicy"), "must specify restartPolicy when restart rules are used"))
	}
	rules := at.Child("restartPolicyRules")
	if len(c.RestartPolicyRules) > 20 {
		errs = append(errs, field.TooMany(rules, len(c.RestartPolicyRules), 20))
	}
	for i, r := range c.RestartPolicyRules {
		at := rules.Index(i)
		errs = append(errs, supported(r.Action, at.Child("action"), corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers)...)
		if r.ExitCodes == nil {
			errs = append(errs, field.Required(at.Child("exitCodes"), "must be specified"))
			continue
		}
		errs = append(errs, supported(r.ExitCodes.Operator, at.Child("exitCodes", "operator"), corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)...)
		if len(r.ExitCodes.Values) > 255 {
			errs = append(errs, field.TooMany(at.Child("exitCodes", "values"), len(r.ExitCodes.Values), 255))
		}
	}
	return errs
}

// claims are the devices that a container takes of those of its pod.
func (v *validator) claims(list []corev1.ResourceClaim, at *field.Path) field.ErrorList {
	known := sets.New[string]()
	for _, c := range v.spec.ResourceClaims {
		known.Insert(c.Name)
	}
	names := " which is empty"
	if known.Len() > 0 {
		names = ": " + strings.Join(sets.List(known), ", ")
	}
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, c := range list {
		at := at.Index(i)
		if c.Name == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		// A claim taken as a whole leaves nothing of it to take.
		key := c.Name
		if c.Request != "" {
			errs = append(errs, DNSLabel(c.Request, at.Child("request"))...)
			key += "/" + c.Request
		}
		switch {
		case seen.Has(c.Name):
			errs = append(errs, field.Duplicate(at, c.Name))
		case seen.Has(key), c.Request == "" && slices.ContainsFunc(list[:i], func(o corev1.ResourceClaim) bool { return o.Name == c.Name }):
			errs = append(errs, field.Duplicate(at, key))
		}
		seen.Insert(key)
		if !known.Has(c.Name) {
			missing := field.NotFound(at, c.Name)
			missing.Detail = "must be one of the names in pod.spec.resourceClaims" + names
			errs = append(errs, missing)
		}
	}
	return errs
}

func podClaims(list []corev1.PodResourceClaim, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, c := range list {
		at := at.Index(i)
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case seen.Has(c.Name):
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		default:
			errs = append(errs, DNSLabel(c.Name, at.Child("name"))...)
			seen.Insert(c.Name)
		}
		switch {
		case c.ResourceClaimName != nil && c.ResourceClaimTemplateName != nil:
			errs = append(errs, field.Invalid(at, c, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		case c.ResourceClaimName == nil && c.ResourceClaimTemplateName == nil:
			errs = append(errs, field.Invalid(at, c, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
		if c.ResourceClaimName != nil {
			errs = append(errs, subdomain(*c.ResourceClaimName, at.Child("resourceClaimName"))...)
		}
		if c.ResourceClaimTemplateName != nil {
			errs = append(errs, subdomain(*c.ResourceClaimTemplateName, at.Child("resourceClaimTemplateName"))...)
		}
	}
	return errs
}

func overhead(list corev1.ResourceList, at *field.Path) field.ErrorList {
	return validateResources(&corev1.ResourceRequirements{Limits: list}, ContainerResourceName, at)
}

func appArmor(p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	if p.Type == "" {
		return field.ErrorList{field.Required(at.Child("type"), "type is required when appArmorProfile is set")}
	}
	errs := enum(p.Type, at.Child("type"), corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	name := at.Child("localhostProfile")
	if p.Type != corev1.AppArmorProfileTypeLocalhost {
		if p.LocalhostProfile != nil {
			errs = append(errs, field.Invalid(name, *p.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
		}
		return errs
	}
	switch {
	case p.LocalhostProfile == nil:
		errs = append(errs, field.Required(name, "must be set when AppArmor type is Localhost"))
	case strings.TrimSpace(*p.LocalhostProfile) != *p.LocalhostProfile:
		errs = append(errs, field.Invalid(name, *p.LocalhostProfile, "must not be padded with whitespace"))
	case *p.LocalhostProfile == "":
		errs = append(errs, field.Required(name, "must be set when AppArmor type is Localhost"))
	case len(*p.LocalhostProfile) > 4095:
		errs = append(errs, field.TooLong(name, "", 4095))
	}
	return errs
}

// recursive says which mounts may ask to be read-only to the bottom.
func recursive(m *corev1.VolumeMount, at *field.Path) field.ErrorList {
	r := m.RecursiveReadOnly
	if r == nil || *r == corev1.RecursiveReadOnlyDisabled {
		return nil
	}
	if *r != corev1.RecursiveReadOnlyEnabled && *r != corev1.RecursiveReadOnlyIfPossible {
		return supported(*r, at.Child("recursiveReadOnly"), corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
	}
	var errs field.ErrorList
	if !m.ReadOnly {
		errs = append(errs, field.Forbidden(at.Child("recursiveReadOnly"), "may only be specified when readOnly is true"))
	}
	if p := m.MountPropagation; p != nil && *p != corev1.MountPropagationNone {
		errs = append(errs, field.Forbidden(at.Child("recursiveReadOnly"), fmt.Sprintf("may only be specified when mountPropagation is %s or not specified", corev1.MountPropagationNone)))
	}
	return errs
}
