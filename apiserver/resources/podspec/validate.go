package podspec

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const mustBePositive = "must be greater than zero"

// ValidateTemplate returns every error of a pod template.
func ValidateTemplate(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := unversioned.ValidateLabels(t.Labels, path.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("annotations"))...)
	errs = append(errs, Validate(&t.Spec, path.Child("spec"))...)
	if n := len(t.Spec.EphemeralContainers); n > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

// Validate returns every error of a pod's specification.
func Validate(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(s.Volumes, path.Child("volumes"))
	v := &validator{spec: s, volumes: volumes, names: sets.New[string]()}
	errs = append(errs, v.containers(s.Containers, path.Child("containers"))...)
	errs = append(errs, v.initContainers(s.InitContainers, path.Child("initContainers"))...)
	errs = append(errs, v.ephemeral(s.EphemeralContainers, path.Child("ephemeralContainers"))...)
	errs = append(errs, listed(s.RestartPolicy, path.Child("restartPolicy"), corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, listed(s.DNSPolicy, path.Child("dnsPolicy"), corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)...)
	errs = append(errs, unversioned.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
	errs = append(errs, validateSecurity(s, path.Child("securityContext"))...)
	errs = append(errs, validateAffinity(s.Affinity, path.Child("affinity"))...)
	errs = append(errs, validateDNSConfig(s, path.Child("dnsConfig"))...)
	errs = append(errs, validateSpread(s.TopologySpreadConstraints, path.Child("topologySpreadConstraints"))...)
	if s.ServiceAccountName != "" {
		for _, msg := range apivalidation.ValidateServiceAccountName(s.ServiceAccountName, false) {
			errs = append(errs, field.Invalid(path.Child("serviceAccountName"), s.ServiceAccountName, msg))
		}
	}
	if s.NodeName != "" {
		for _, msg := range apivalidation.NameIsDNSSubdomain(s.NodeName, false) {
			errs = append(errs, field.Invalid(path.Child("nodeName"), s.NodeName, msg))
		}
	}
	if d := s.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > 1<<31-1) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, 1<<31-1)))
	}
	if s.Hostname != "" {
		errs = append(errs, DNSLabel(s.Hostname, path.Child("hostname"))...)
	}
	if s.Subdomain != "" {
		errs = append(errs, DNSLabel(s.Subdomain, path.Child("subdomain"))...)
	}
	errs = append(errs, ValidateTolerations(s.Tolerations, path.Child("tolerations"))...)
	for i, alias := range s.HostAliases {
		at := path.Child("hostAliases").Index(i)
		errs = append(errs, validation.IsValidIP(at.Child("ip"), alias.IP)...)
		for j, name := range alias.Hostnames {
			for _, msg := range apivalidation.NameIsDNSSubdomain(name, false) {
				errs = append(errs, field.Invalid(at.Child("hostnames").Index(j), name, msg))
			}
		}
	}
	if s.PriorityClassName != "" {
		for _, msg := range apivalidation.NameIsDNSSubdomain(s.PriorityClassName, false) {
			errs = append(errs, field.Invalid(path.Child("priorityClassName"), s.PriorityClassName, msg))
		}
	}
	if s.RuntimeClassName != nil {
		for _, msg := range apivalidation.NameIsDNSSubdomain(*s.RuntimeClassName, false) {
			errs = append(errs, field.Invalid(path.Child("runtimeClassName"), *s.RuntimeClassName, msg))
		}
	}
	if s.PreemptionPolicy != nil {
		errs = append(errs, listed(*s.PreemptionPolicy, path.Child("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	for i, gate := range s.ReadinessGates {
		for _, msg := range validation.IsQualifiedName(string(gate.ConditionType)) {
			errs = append(errs, field.Invalid(path.Child("readinessGates").Index(i).Child("conditionType"), gate.ConditionType, msg))
		}
	}
	gates := sets.New[string]()
	for i, gate := range s.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		for _, msg := range validation.IsQualifiedName(gate.Name) {
			errs = append(errs, field.Invalid(at, gate.Name, msg))
		}
		if gates.Has(gate.Name) {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
		gates.Insert(gate.Name)
	}
	if name := s.HostnameOverride; name != nil {
		errs = append(errs, hostnameOverride(s, *name, path.Child("hostnameOverride"))...)
	}
	errs = append(errs, platform(s, path)...)
	errs = append(errs, hostProcess(s, path)...)
	errs = append(errs, podClaims(s.ResourceClaims, path.Child("resourceClaims"))...)
	errs = append(errs, overhead(s.Overhead, path.Child("overhead"))...)
	if s.OS != nil {
		if s.OS.Name == "" {
			errs = append(errs, field.Required(path.Child("os", "name"), ""))
		} else {
			errs = append(errs, enum(s.OS.Name, path.Child("os"), corev1.Linux, corev1.Windows)...)
		}
	}
	if s.Resources != nil && (s.OS == nil || s.OS.Name != corev1.Windows) {
		errs = append(errs, v.podResources(s.Resources, path.Child("resources"))...)
	}
	return errs
}

type validator struct {
	spec    *corev1.PodSpec
	volumes map[string]*corev1.VolumeSource
	names   sets.Set[string]
}

// DNSLabel is the rule for names of containers.
func DNSLabel(text string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Label(text) {
		errs = append(errs, field.Invalid(path, text, msg))
	}
	return errs
}

// enum demands one of values; an empty value is missing.
func enum[T ~string](got T, path *field.Path, values ...T) field.ErrorList {
	if got == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if slices.Contains(values, got) {
		return nil
	}
	slices.Sort(values)
	return field.ErrorList{field.NotSupported(path, got, values)}
}

// listed is enum for values that messages show in an order of their own.
func listed[T ~string](got T, path *field.Path, values ...T) field.ErrorList {
	if got != "" && !slices.Contains(values, got) {
		return field.ErrorList{field.NotSupported(path, got, values)}
	}
	return enum(got, path, values...)
}

// ValidateTolerations returns every error of tolerations.
func ValidateTolerations(list []corev1.Toleration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, t := range list {
		at := path.Index(i)
		if t.Key != "" {
			errs = append(errs, unversioned.ValidateLabelName(t.Key, at.Child("key"))...)
		}
		if t.Key == "" && t.Operator != corev1.TolerationOpExists {
			errs = append(errs, field.Invalid(at.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\""))
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			errs = append(errs, field.Invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
		}
		switch t.Operator {
		case corev1.TolerationOpEqual, "":
			if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
				errs = append(errs, field.Invalid(at.Child("operator"), t.Value, strings.Join(msgs, ";")))
			}
		case corev1.TolerationOpExists:
			if t.Value != "" {
				errs = append(errs, field.Invalid(at.Child("operator"), t.Value, "value must be empty when `operator` is 'Exists'"))
			}
		case corev1.TolerationOpLt, corev1.TolerationOpGt:
			// Known, but of a feature that is off.
			errs = append(errs, field.NotSupported(at.Child("operator"), t.Operator, []corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists, corev1.TolerationOpLt, corev1.TolerationOpGt}))
		default:
			errs = append(errs, field.NotSupported(at.Child("operator"), t.Operator, []corev1.TolerationOperator{corev1.TolerationOpEqual, corev1.TolerationOpExists}))
		}
		switch t.Effect {
		case "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		default:
			errs = append(errs, field.NotSupported(at.Child("effect"), t.Effect, []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}))
		}
	}
	return errs
}

func validateSecurity(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	c := s.SecurityContext
	if c == nil {
		return nil
	}
	var errs field.ErrorList
	id := func(v *int64, name string, user bool) {
		if v == nil {
			return
		}
		msgs := validation.IsValidGroupID(*v)
		if user {
			msgs = validation.IsValidUserID(*v)
		}
		for _, msg := range msgs {
			errs = append(errs, field.Invalid(path.Child(name), *v, msg))
		}
	}
	id(c.FSGroup, "fsGroup", false)
	id(c.RunAsUser, "runAsUser", true)
	id(c.RunAsGroup, "runAsGroup", false)
	for i, g := range c.SupplementalGroups {
		for _, msg := range validation.IsValidGroupID(g) {
			errs = append(errs, field.Invalid(path.Child("supplementalGroups").Index(i), g, msg))
		}
	}
	if p := c.FSGroupChangePolicy; p != nil {
		errs = append(errs, supported(*p, path.Child("fsGroupChangePolicy"), corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)...)
	}
	if p := c.SupplementalGroupsPolicy; p != nil {
		errs = append(errs, supported(*p, path.Child("supplementalGroupsPolicy"), corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)...)
	}
	if p := c.SELinuxChangePolicy; p != nil {
		errs = append(errs, supported(*p, path.Child("seLinuxChangePolicy"), corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)...)
	}
	errs = append(errs, windows(c.WindowsOptions, path.Child("windowsOptions"))...)
	errs = append(errs, sysctls(c.Sysctls, s, path.Child("sysctls"))...)
	if s.ShareProcessNamespace != nil && *s.ShareProcessNamespace && s.HostPID {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), *s.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	if s.HostUsers != nil && !*s.HostUsers && (s.HostPID || s.HostIPC || s.HostNetwork) {
		errs = append(errs, field.Forbidden(path.Child("hostUsers"), "when `pod.Spec.HostUsers` is false, host namespaces cannot be used"))
	}
	errs = append(errs, appArmor(c.AppArmorProfile, path.Child("appArmorProfile"))...)
	return append(errs, validateSeccomp(c.SeccompProfile, path.Child("seccompProfile"))...)
}

func validateSeccomp(p *corev1.SeccompProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	if p.Type == "" {
		return field.ErrorList{field.Required(path.Child("type"), "type is required when seccompProfile is set")}
	}
	errs := enum(p.Type, path.Child("type"), corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	if p.Type == corev1.SeccompProfileTypeLocalhost {
		if p.LocalhostProfile == nil {
			errs = append(errs, field.Required(path.Child("localhostProfile"), "must be set when seccomp type is Localhost"))
		} else {
			errs = append(errs, localPath(*p.LocalhostProfile, path.Child("localhostProfile"))...)
		}
	}
	if p.Type != corev1.SeccompProfileTypeLocalhost && p.LocalhostProfile != nil {
		errs = append(errs, field.Invalid(path.Child("localhostProfile"), *p.LocalhostProfile, "can only be set when seccomp type is Localhost"))
	}
	return errs
}

func validateDNSConfig(s *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	c := s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone {
		if c == nil {
			return field.ErrorList{field.Required(path, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone))}
		}
		if len(c.Nameservers) == 0 {
			return field.ErrorList{field.Required(path.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone))}
		}
	}
	if c == nil {
		return nil
	}
	if len(c.Nameservers) > 3 {
		errs = append(errs, field.Invalid(path.Child("nameservers"), c.Nameservers, "must not have more than 3 nameservers"))
	}
	for i, ns := range c.Nameservers {
		errs = append(errs, validation.IsValidIP(path.Child("nameservers").Index(i), ns)...)
	}
	if len(c.Searches) > 32 {
		errs = append(errs, field.Invalid(path.Child("searches"), c.Searches, "must not have more than 32 search paths"))
	}
	for i, o := range c.Options {
		if o.Name == "" {
			errs = append(errs, field.Required(path.Child("options").Index(i), "must not be empty"))
		}
	}
	for i, search := range c.Searches {
		name := strings.TrimSuffix(search, ".")
		for _, msg := range validation.IsDNS1123SubdomainWithUnderscore(name) {
			if search != "." {
				errs = append(errs, field.Invalid(path.Child("searches").Index(i), search, msg))
			}
		}
	}
	if n := len(strings.Join(c.Searches, " ")); n > 2048 {
		errs = append(errs, field.Invalid(path.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %d characters (including spaces) in the search list", 2048)))
	}
	return errs
}

func validateSpread(list []corev1.TopologySpreadConstraint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, c := range list {
		at := path.Index(i)
		if c.MaxSkew <= 0 {
			errs = append(errs, field.Invalid(at.Child("maxSkew"), c.MaxSkew, mustBePositive))
		}
		if c.TopologyKey == "" {
			errs = append(errs, field.Required(at.Child("topologyKey"), "can not be empty"))
		}
		if c.WhenUnsatisfiable != corev1.DoNotSchedule && c.WhenUnsatisfiable != corev1.ScheduleAnyway {
			errs = append(errs, field.NotSupported(at.Child("whenUnsatisfiable"), c.WhenUnsatisfiable, []corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}))
		}
		if c.MinDomains != nil && *c.MinDomains <= 0 {
			errs = append(errs, field.Invalid(at.Child("minDomains"), *c.MinDomains, mustBePositive))
		}
		if c.MinDomains != nil && c.WhenUnsatisfiable != corev1.DoNotSchedule {
			errs = append(errs, field.Invalid(at.Child("minDomains"), *c.MinDomains, fmt.Sprintf("can only use minDomains if whenUnsatisfiable=%s, not %s", corev1.DoNotSchedule, c.WhenUnsatisfiable)))
		}
		errs = append(errs, unversioned.ValidateLabelSelector(c.LabelSelector, unversioned.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
		errs = append(errs, labelKeys(c.MatchLabelKeys, "matchLabelKeys", c.LabelSelector, at)...)
		for name, p := range map[string]*corev1.NodeInclusionPolicy{"nodeAffinityPolicy": c.NodeAffinityPolicy, "nodeTaintsPolicy": c.NodeTaintsPolicy} {
			if p != nil {
				errs = append(errs, supported(*p, at.Child(name), corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore)...)
			}
		}
		for _, other := range list[:i] {
			if other.TopologyKey == c.TopologyKey && other.WhenUnsatisfiable == c.WhenUnsatisfiable {
				errs = append(errs, field.Duplicate(at.Child("{topologyKey, whenUnsatisfiable}"), fmt.Sprintf("{%v, %v}", c.TopologyKey, c.WhenUnsatisfiable)))
				break
			}
		}
	}
	return errs
}

// labelKeys are keys of a pod's labels that a selector takes the values of. The
// selector may have them as well, since the server writes them there.
func labelKeys(keys []string, name string, selector *metav1.LabelSelector, at *field.Path) field.ErrorList {
	if len(keys) == 0 {
		return nil
	}
	var errs field.ErrorList
	if selector == nil {
		errs = append(errs, field.Forbidden(at.Child(name), "must not be specified when labelSelector is not set"))
	}
	for i, key := range keys {
		errs = append(errs, unversioned.ValidateLabelName(key, at.Child(name).Index(i))...)
	}
	return errs
}

// hostnameOverride is the whole of a pod's host name, as the kernel bounds it.
func hostnameOverride(s *corev1.PodSpec, name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(at, "may not be specified when hostNetwork is true"))
	}
	if s.SetHostnameAsFQDN != nil && *s.SetHostnameAsFQDN {
		errs = append(errs, field.Forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
	}
	if len(name) > 64 {
		errs = append(errs, field.TooLong(at, name, 64))
	}
	return append(errs, subdomain(name, at)...)
}

// NonNegative refuses a negative quantity.
func NonNegative(q resource.Quantity, path *field.Path) field.ErrorList {
	if q.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, q.String(), "must be greater than or equal to 0")}
	}
	return nil
}
