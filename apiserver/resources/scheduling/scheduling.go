// Package scheduling declares the kinds of scheduling.k8s.io.
package scheduling

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{priorityClasses(), workloads(), podGroups(), compositePodGroups()}
}

func priorityClasses() resources.Resource {
	r := resources.Kind(schedulingv1.GroupName, "PriorityClass", "priorityclasses", false, "pc")
	r.Versions = []resources.Version{resources.HubVersion[schedulingv1.PriorityClass]("v1", resources.Empty[schedulingv1.PriorityClassList], defaultPriorityClass)}
	r.Columns = table.Columns(table.Name(), table.Int("Value", "The priority of pods of the class."), table.Bool("Global-Default", "Whether pods without a class get this one."), table.Age(), table.Text("PreemptionPolicy", "Whether pods of the class take the room of others."))
	return resources.Declare(resources.Spec[schedulingv1.PriorityClass, *schedulingv1.PriorityClass]{
		Resource: r,
		Strategy: resources.TypedStrategy[schedulingv1.PriorityClass, *schedulingv1.PriorityClass]{AllowUnconditionalUpdate: true, Generation: true, Validate: validatePriorityClass, ValidateUpdate: updatePriorityClass},
		Row: func(o *schedulingv1.PriorityClass) []any {
			return []any{o.Name, int64(o.Value), o.GlobalDefault, table.Since(o.CreationTimestamp), string(*o.PreemptionPolicy)}
		},
	})
}

func defaultPriorityClass(o *schedulingv1.PriorityClass) {
	if o.PreemptionPolicy == nil {
		p := corev1.PreemptLowerPriority
		o.PreemptionPolicy = &p
	}
}

const (
	systemPrefix = "system-"
	highestUser  = int32(1000000000)
)

func validatePriorityClass(_ context.Context, o *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	switch {
	case strings.HasPrefix(o.Name, systemPrefix):
		if o.Name != "system-node-critical" && o.Name != "system-cluster-critical" {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), "priority class names with '"+systemPrefix+"' prefix are reserved for system use only. error: "+o.Name+" is not a known system priority class"))
		}
	case o.Value > highestUser:
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", highestUser)))
	}
	if p := o.PreemptionPolicy; p != nil && *p != corev1.PreemptLowerPriority && *p != corev1.PreemptNever {
		errs = append(errs, field.NotSupported(field.NewPath("preemptionPolicy"), *p, []corev1.PreemptionPolicy{corev1.PreemptLowerPriority, corev1.PreemptNever}))
	}
	return errs
}

func updatePriorityClass(_ context.Context, o, old *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if o.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	return append(errs, apivalidation.ValidateImmutableField(o.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
}
