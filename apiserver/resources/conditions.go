package resources

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidConditions returns every error of a status' conditions.
func ValidConditions(list []metav1.Condition) field.ErrorList {
	return validation.ValidateConditions(list, field.NewPath("status", "conditions"))
}
