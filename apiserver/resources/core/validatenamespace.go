package core

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateNamespace(_ context.Context, ns *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for _, f := range ns.Spec.Finalizers {
		at := specPath.Child("finalizers")
		for _, msg := range validation.IsQualifiedName(string(f)) {
			errs = append(errs, field.Invalid(at, string(f), msg))
		}
		if !strings.Contains(string(f), "/") && f != corev1.FinalizerKubernetes && f != "orphan" && f != "foregroundDeletion" {
			errs = append(errs, field.Invalid(at, string(f), "name is neither a standard finalizer name nor is it fully qualified"))
		}
	}
	return errs
}

func validateNamespaceUpdate(ctx context.Context, ns, _ *corev1.Namespace) field.ErrorList {
	return validateNamespace(ctx, ns)
}

func validateNamespaceStatusUpdate(_ context.Context, ns, _ *corev1.Namespace) field.ErrorList {
	at := statusPath.Child("Phase")
	switch {
	case ns.DeletionTimestamp.IsZero() && ns.Status.Phase != corev1.NamespaceActive:
		return field.ErrorList{field.Invalid(at, ns.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")}
	case !ns.DeletionTimestamp.IsZero() && ns.Status.Phase != corev1.NamespaceTerminating:
		return field.ErrorList{field.Invalid(at, ns.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")}
	}
	return nil
}
