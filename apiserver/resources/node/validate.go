package node

import (
	"context"

	nodev1 "k8s.io/api/node/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources/podspec"
)

// validateExtras are a class's overhead and where its pods may run.
func validateExtras(_ context.Context, o *nodev1.RuntimeClass) field.ErrorList {
	var errs field.ErrorList
	if o.Overhead != nil {
		for name, q := range o.Overhead.PodFixed {
			errs = append(errs, podspec.NonNegative(q, field.NewPath("overhead", "podFixed").Key(string(name)))...)
		}
	}
	if s := o.Scheduling; s != nil {
		at := field.NewPath("scheduling")
		errs = append(errs, unversioned.ValidateLabels(s.NodeSelector, at.Child("nodeSelector"))...)
		errs = append(errs, podspec.ValidateTolerations(s.Tolerations, at.Child("tolerations"))...)
	}
	return errs
}
