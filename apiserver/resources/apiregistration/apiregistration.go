// Package apiregistration declares APIService.
package apiregistration

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	v1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/utils/ptr"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/table"
)

type service = v1.APIService

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	r := resources.Kind(v1.SchemeGroupVersion.Group, "APIService", "apiservices", false)
	r.Path = v1.SchemeGroupVersion.Group + "/apiservices"
	r.Categories = []string{"api-extensions"}
	r.Versions = []resources.Version{resources.HubVersion("v1", resources.Empty[v1.APIServiceList], func(o *service) {
		if s := o.Spec.Service; s != nil && s.Port == nil {
			port := int32(443)
			s.Port = &port
		}
	})}
	r.Columns = table.Columns(table.Name(), table.Text("Service", "Who serves the version."), table.Text("Available", "Whether it answers."), table.Age())
	main, view := resources.SpecStatus(resources.TypedStrategy[service, *service]{Metadata: resources.MetadataRules{NamesOnUpdate: true, AnyFinalizer: true},
		NameValidation: func(name string, _ bool) []string { return content.IsPathSegmentName(name) },
		Validate:       func(_ context.Context, o *service) field.ErrorList { return validate(o) },
		ValidateUpdate: func(_ context.Context, o, _ *service) field.ErrorList { return validate(o) },
	}, func(o *service) *v1.APIServiceSpec { return &o.Spec }, func(o *service) *v1.APIServiceStatus { return &o.Status })
	return []resources.Resource{resources.Declare(resources.Spec[service, *service]{
		Resource: r, Strategy: main, Views: resources.StatusView(view),
		Row: func(o *service) []any {
			who := "Local"
			if s := o.Spec.Service; s != nil {
				who = s.Namespace + "/" + s.Name
			}
			available := "Unknown"
			for _, c := range o.Status.Conditions {
				if c.Type == v1.Available {
					available = string(c.Status)
					if c.Status != v1.ConditionTrue {
						available += " (" + c.Reason + ")"
					}
				}
			}
			return []any{o.Name, who, available, table.Since(o.CreationTimestamp)}
		},
	})}
}

func validate(o *service) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	if o.Spec.Group == "" && o.Spec.Version != "v1" {
		errs = append(errs, field.Required(at.Child("group"), "only v1 may have an empty group and it better be legacy kube"))
	}
	if o.Spec.Group != "" {
		for _, msg := range validation.IsDNS1123Subdomain(o.Spec.Group) {
			errs = append(errs, field.Invalid(at.Child("group"), o.Spec.Group, msg))
		}
	}
	for _, msg := range validation.IsDNS1035Label(o.Spec.Version) {
		errs = append(errs, field.Invalid(at.Child("version"), o.Spec.Version, msg))
	}
	if want := o.Spec.Version + "." + o.Spec.Group; o.Name != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), o.Name, "must be `spec.version+\".\"+spec.group`: \""+want+"\""))
	}
	if o.Spec.GroupPriorityMinimum <= 0 || o.Spec.GroupPriorityMinimum > 20000 {
		errs = append(errs, field.Invalid(at.Child("groupPriorityMinimum"), o.Spec.GroupPriorityMinimum, "must be positive and less than 20000"))
	}
	if o.Spec.VersionPriority <= 0 || o.Spec.VersionPriority > 1000 {
		errs = append(errs, field.Invalid(at.Child("versionPriority"), o.Spec.VersionPriority, "must be positive and less than 1000"))
	}
	s := o.Spec.Service
	if s == nil {
		if n := len(o.Spec.CABundle); n > 0 {
			errs = append(errs, field.Invalid(at.Child("caBundle"), fmt.Sprintf("%d bytes", n), "local APIServices may not have a caBundle"))
		}
		if o.Spec.InsecureSkipTLSVerify {
			errs = append(errs, field.Invalid(at.Child("insecureSkipTLSVerify"), true, "local APIServices may not have insecureSkipTLSVerify"))
		}
		return errs
	}
	if s.Namespace == "" {
		errs = append(errs, field.Required(at.Child("service", "namespace"), ""))
	}
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("service", "name"), ""))
	}
	if port := ptr.Deref(s.Port, 443); len(validation.IsValidPortNum(int(port))) > 0 {
		errs = append(errs, field.Invalid(at.Child("service", "port"), port, "port is not valid: "+strings.Join(validation.IsValidPortNum(int(port)), ", ")))
	}
	if o.Spec.InsecureSkipTLSVerify && len(o.Spec.CABundle) > 0 {
		errs = append(errs, field.Invalid(at.Child("insecureSkipTLSVerify"), o.Spec.InsecureSkipTLSVerify, "may not be true if caBundle is present"))
	}
	return errs
}
