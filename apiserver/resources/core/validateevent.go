package core

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateEvent is ValidateEvent with core's names of fields.
func validateEvent(_ context.Context, e *corev1.Event) field.ErrorList {
	return ValidateEvent(e, "reportingComponent")
}

// ValidateEvent returns the errors that an event of either group may not have; the
// groups name who reports differently.
func ValidateEvent(e *corev1.Event, reporter string) field.ErrorList {
	var errs field.ErrorList
	involved := field.NewPath("involvedObject", "namespace")
	switch ns := e.InvolvedObject.Namespace; {
	case ns == "" && e.Namespace != "" && e.Namespace != metav1.NamespaceDefault && (e.EventTime.IsZero() || e.Namespace != metav1.NamespaceSystem):
		errs = append(errs, field.Invalid(involved, ns, "does not match event.namespace"))
	case ns != "" && ns != e.Namespace && e.EventTime.IsZero():
		errs = append(errs, field.Invalid(involved, ns, "does not match event.namespace"))
	}
	for _, msg := range validation.IsDNS1123Subdomain(e.Namespace) {
		errs = append(errs, field.Invalid(field.NewPath("namespace"), e.Namespace, msg))
	}
	if e.EventTime.IsZero() {
		return errs
	}
	// Those of the newer API must be whole.
	controller := field.NewPath(reporter)
	if e.ReportingController == "" {
		errs = append(errs, field.Required(controller, ""))
	}
	for _, msg := range validation.IsQualifiedName(e.ReportingController) {
		errs = append(errs, field.Invalid(controller, e.ReportingController, msg))
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{{"reportingInstance", e.ReportingInstance, 128}, {"action", e.Action, 128}, {"reason", e.Reason, 128}} {
		switch {
		case f.value == "":
			errs = append(errs, field.Required(field.NewPath(f.name), ""))
		case len(f.value) > f.most:
			errs = append(errs, field.Invalid(field.NewPath(f.name), "", fmt.Sprintf("can have at most %v characters", f.most)))
		}
	}
	if len(e.Message) > 1024 {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", fmt.Sprintf("can have at most %v characters", 1024)))
	}
	return errs
}

// validateEventUpdate is validateEvent for a change.
func validateEventUpdate(ctx context.Context, e, _ *corev1.Event) field.ErrorList {
	return validateEvent(ctx, e)
}
