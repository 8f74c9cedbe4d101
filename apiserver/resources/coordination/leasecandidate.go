package coordination

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	alpha "k8s.io/api/coordination/v1alpha2"
	beta "k8s.io/api/coordination/v1beta1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/version"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/convert"
	"skiff/apiserver/resources/table"
)

func leaseCandidates() resources.Resource {
	r := resources.Kind(coordinationv1.GroupName, "LeaseCandidate", "leasecandidates", true)
	r.Hub = "v1beta1"
	hub := resources.HubVersion[beta.LeaseCandidate]("v1beta1", resources.Empty[beta.LeaseCandidateList], nil)
	hub.OffByDefault = true
	r.Versions = []resources.Version{hub, convert.Same[alpha.LeaseCandidate, beta.LeaseCandidate](
		schema.GroupVersionKind{Group: coordinationv1.GroupName, Version: "v1alpha2", Kind: "LeaseCandidate"}, "v1beta1",
		resources.Empty[alpha.LeaseCandidateList], nil)}
	r.Columns = table.Columns(table.Name(), table.Text("LeaseName", "The lease that is stood for."),
		table.Text("BinaryVersion", "The candidate's version."), table.Text("EmulationVersion", "The version it emulates."), table.Age())
	return resources.Declare(resources.Spec[beta.LeaseCandidate, *beta.LeaseCandidate]{
		Resource: r,
		Strategy: resources.Checked(resources.TypedStrategy[beta.LeaseCandidate, *beta.LeaseCandidate]{Metadata: resources.MetadataRules{AnyFinalizer: true}, AllowCreateOnUpdate: true}, validateCandidate),
		Row: func(o *beta.LeaseCandidate) []any {
			return []any{o.Name, o.Spec.LeaseName, o.Spec.BinaryVersion, o.Spec.EmulationVersion, table.Since(o.CreationTimestamp)}
		},
	})
}

func validateCandidate(_ context.Context, o, old *beta.LeaseCandidate) field.ErrorList {
	s, at := &o.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if s.LeaseName == "" {
		errs = append(errs, field.Required(at.Child("leaseName"), ""))
	}
	parse := func(text, name string) *version.Version {
		v, err := version.ParseGeneric(text)
		if err != nil {
			errs = append(errs, field.Invalid(at.Child(name), text, err.Error()))
			return nil
		}
		return v
	}
	var binary *version.Version
	if s.BinaryVersion == "" {
		errs = append(errs, field.Required(at.Child("binaryVersion"), ""))
	} else {
		binary = parse(s.BinaryVersion, "binaryVersion")
	}
	if s.EmulationVersion != "" {
		if emulated := parse(s.EmulationVersion, "emulationVersion"); emulated != nil && binary != nil && binary.LessThan(emulated) {
			errs = append(errs, field.Invalid(at.Child("binaryVersion"), s.BinaryVersion, "must be greater than or equal to `emulationVersion`"))
		}
	}
	if s.Strategy == "" {
		errs = append(errs, field.Required(at.Child("strategy"), ""))
	} else {
		errs = append(errs, strategyName(s.Strategy, at.Child("strategy"))...)
		if s.Strategy == coordinationv1.OldestEmulationVersion && s.EmulationVersion == "" {
			errs = append(errs, field.Required(at.Child("emulationVersion"), "must be specified when `strategy` is 'OldestEmulationVersion'"))
		}
	}
	if old != nil {
		errs = append(errs, apivalidation.ValidateImmutableField(s.LeaseName, old.Spec.LeaseName, at.Child("leaseName"))...)
	}
	return errs
}
