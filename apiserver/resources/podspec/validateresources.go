package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// standardResources are those a container may name without a domain.
func standardResource(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
		return true
	}
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// ExtendedResource tells a resource of a device or of a node's own from a native one.
func ExtendedResource(name corev1.ResourceName) bool {
	text := string(name)
	return strings.Contains(text, "/") && !strings.Contains(text, corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(text, corev1.DefaultResourceRequestsPrefix)
}

// overcommit tells whether more may be promised of a resource than there is.
func overcommit(name corev1.ResourceName) bool {
	return nativeResource(name) && !hugePages(name)
}

func nativeResource(name corev1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

func hugePages(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

// nameWithoutDomain tells the names of resources that stand for themselves, beside
// those of huge pages.
func nameWithoutDomain(name corev1.ResourceName) bool {
	switch name {
	case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourceStorage,
		corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory, corev1.ResourceRequestsStorage, corev1.ResourceRequestsEphemeralStorage,
		corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory, corev1.ResourceLimitsEphemeralStorage,
		corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers,
		corev1.ResourceSecrets, corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims,
		corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		return true
	}
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix)
}

// ResourceName is the rule for names of resources wherever they stand.
func ResourceName(name corev1.ResourceName, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(name)) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	if len(errs) == 0 && !strings.Contains(string(name), "/") && !nameWithoutDomain(name) {
		errs = append(errs, field.Invalid(at, name, "must be a standard resource type or fully qualified"))
	}
	return errs
}

// ContainerResourceName is the rule for those that containers ask for.
func ContainerResourceName(name corev1.ResourceName, at *field.Path) field.ErrorList {
	errs := ResourceName(name, at)
	text := string(name)
	switch {
	case !strings.Contains(text, "/"):
		if !standardResource(name) {
			errs = append(errs, field.Invalid(at, name, "must be a standard resource for containers"))
		}
	case !strings.Contains(text, corev1.ResourceDefaultNamespacePrefix) && !extendedName(text):
		errs = append(errs, field.Invalid(at, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

// extendedName tells whether the name of a device's resource leaves room for what
// quotas put before it.
func extendedName(text string) bool {
	return !strings.HasPrefix(text, corev1.DefaultResourceRequestsPrefix) &&
		len(validation.IsQualifiedName(corev1.DefaultResourceRequestsPrefix+text)) == 0
}

func quantity(name corev1.ResourceName, q resource.Quantity, at *field.Path) field.ErrorList {
	errs := NonNegative(q, at)
	if ExtendedResource(name) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(at, q.String(), "must be an integer"))
	}
	if hugePages(name) && !wholePages(name, q) {
		errs = append(errs, field.Invalid(at, q.String(), fmt.Sprintf("%s is not positive integer multiple of %s", q.String(), name)))
	}
	return errs
}

// wholePages tells whether an amount is of pages of the size that the name says.
func wholePages(name corev1.ResourceName, q resource.Quantity) bool {
	size, err := resource.ParseQuantity(strings.TrimPrefix(string(name), corev1.ResourceHugePagesPrefix))
	return err == nil && size.Value() > 0 && q.Value()%size.Value() == 0
}

// validateResources holds amounts to their names, which nameErrors is the rule
// for, and requests to limits.
func validateResources(r *corev1.ResourceRequirements, nameErrors func(corev1.ResourceName, *field.Path) field.ErrorList, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, q := range r.Limits {
		at := at.Child("limits")
		errs = append(errs, nameErrors(name, at.Key(string(name)))...)
		errs = append(errs, quantity(name, q, at.Key(string(name)))...)
	}
	for name, q := range r.Requests {
		limits, at := at.Child("limits"), at.Child("requests")
		errs = append(errs, nameErrors(name, at.Key(string(name)))...)
		errs = append(errs, quantity(name, q, at.Key(string(name)))...)
		limit, limited := r.Limits[name]
		switch {
		case limited && !overcommit(name) && q.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(at, q.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(at, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !limited && !overcommit(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		}
	}
	if pagesAlone(r) {
		errs = append(errs, field.Forbidden(at, "HugePages require cpu or memory"))
	}
	return errs
}

// pagesAlone tells whether huge pages are asked for without anything to run on.
func pagesAlone(r *corev1.ResourceRequirements) bool {
	huge := false
	for _, list := range []corev1.ResourceList{r.Limits, r.Requests} {
		for name := range list {
			switch {
			case name == corev1.ResourceCPU, name == corev1.ResourceMemory:
				return false
			case hugePages(name):
				huge = true
			}
		}
	}
	return huge
}

// podResourceName is the rule for what a whole pod asks for.
func podResourceName(name corev1.ResourceName, at *field.Path) field.ErrorList {
	errs := ResourceName(name, at)
	if len(errs) == 0 && !PodLevelResource(name) {
		errs = append(errs, field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceHugePagesPrefix, corev1.ResourceMemory}))
	}
	return errs
}

// podResources are those of the whole pod.
func (v *validator) podResources(r *corev1.ResourceRequirements, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Claims != nil {
		errs = append(errs, field.Forbidden(at.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	errs = append(errs, validateResources(r, podResourceName, at)...)
	errs = append(errs, v.claims(r.Claims, at.Child("claims"))...)
	total := containersRequests(v.spec)
	for name, q := range r.Requests {
		if sum := total[name]; sum.Cmp(q) > 0 {
			errs = append(errs, field.Invalid(at.Child("requests").Key(string(name)), q.String(), fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String())))
		}
	}
	return errs
}
