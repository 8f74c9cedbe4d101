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

func overcommit(name corev1.ResourceName) bool {
	return standardResource(name) && !strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

func resourceName(name corev1.ResourceName, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(name)) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	if len(errs) == 0 && !strings.Contains(string(name), "/") && !standardResource(name) {
		errs = append(errs, field.Invalid(at, name, "must be a standard resource for containers"))
	}
	return errs
}

func quantity(name corev1.ResourceName, q resource.Quantity, at *field.Path) field.ErrorList {
	errs := NonNegative(q, at)
	if (ExtendedResource(name) || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)) && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(at, q.String(), "must be an integer"))
	}
	return errs
}

func validateResources(r *corev1.ResourceRequirements, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, q := range r.Limits {
		at := at.Child("limits")
		errs = append(errs, resourceName(name, at.Key(string(name)))...)
		errs = append(errs, quantity(name, q, at.Key(string(name)))...)
	}
	for name, q := range r.Requests {
		limits, at := at.Child("limits"), at.Child("requests")
		errs = append(errs, resourceName(name, at.Key(string(name)))...)
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
	return errs
}

// podResources are those of the whole pod.
func (v *validator) podResources(r *corev1.ResourceRequirements, at *field.Path) field.ErrorList {
	errs := validateResources(r, at)
	for list, resources := range map[string]corev1.ResourceList{"limits": r.Limits, "requests": r.Requests} {
		for name := range resources {
			if !PodLevelResource(name) {
				errs = append(errs, field.NotSupported(at.Child(list).Key(string(name)), name, []corev1.ResourceName{corev1.ResourceCPU, "hugepages-", corev1.ResourceMemory}))
			}
		}
	}
	if len(r.Claims) > 0 {
		errs = append(errs, field.Forbidden(at.Child("claims"), "claims cannot be set for Resources at pod-level"))
	}
	total := containersRequests(v.spec)
	for name, q := range r.Requests {
		if sum := total[name]; sum.Cmp(q) > 0 {
			errs = append(errs, field.Invalid(at.Child("requests").Key(string(name)), q.String(), fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String())))
		}
	}
	return errs
}
