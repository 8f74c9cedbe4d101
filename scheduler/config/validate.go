package config

import (
	"fmt"
	"net/url"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/ptr"
)

// Validate checks a completed configuration.
func Validate(c *configv1.KubeSchedulerConfiguration) error {
	var errs field.ErrorList
	bad := func(p *field.Path, v any, text string) { errs = append(errs, field.Invalid(p, v, text)) }
	if n := *c.Parallelism; n <= 0 {
		bad(field.NewPath("parallelism"), n, "should be an integer value greater than zero")
	}
	percent := func(p *field.Path, v *int32) {
		if n := ptr.Deref(v, 0); n < 0 || n > 100 {
			bad(p, n, "not in valid range [0-100]")
		}
	}
	percent(field.NewPath("percentageOfNodesToScore"), c.PercentageOfNodesToScore)
	if n := *c.PodInitialBackoffSeconds; n <= 0 {
		bad(field.NewPath("podInitialBackoffSeconds"), n, "must be greater than 0")
	}
	if n := *c.PodMaxBackoffSeconds; n < *c.PodInitialBackoffSeconds {
		bad(field.NewPath("podMaxBackoffSeconds"), n, "must be greater than or equal to PodInitialBackoffSeconds")
	}
	names := sets.New[string]()
	for i := range c.Profiles {
		p, at := &c.Profiles[i], field.NewPath("profiles").Index(i)
		name := ptr.Deref(p.SchedulerName, "")
		if name == "" {
			errs = append(errs, field.Required(at.Child("schedulerName"), ""))
		} else if names.Has(name) {
			errs = append(errs, field.Duplicate(at.Child("schedulerName"), name))
		}
		names.Insert(name)
		percent(at.Child("percentageOfNodesToScore"), p.PercentageOfNodesToScore)
		seen := sets.New[string]()
		for j, pc := range p.PluginConfig {
			if seen.Has(pc.Name) {
				errs = append(errs, field.Duplicate(at.Child("pluginConfig").Index(j), pc.Name))
			}
			seen.Insert(pc.Name)
		}
	}
	binders := 0
	for i := range c.Extenders {
		e, at := &c.Extenders[i], field.NewPath("extenders").Index(i)
		if u, err := url.Parse(e.URLPrefix); err != nil || u.Host == "" {
			bad(at.Child("urlPrefix"), e.URLPrefix, "must be an absolute URL")
		}
		if e.PrioritizeVerb != "" && e.Weight <= 0 {
			bad(at.Child("weight"), e.Weight, "must have a positive weight applied to it")
		}
		if e.BindVerb != "" {
			binders++
		}
	}
	if binders > 1 {
		bad(field.NewPath("extenders"), fmt.Sprintf("found %d extenders implementing bind", binders), "only one extender can implement bind")
	}
	if err := errs.ToAggregate(); err != nil {
		return fmt.Errorf("the scheduler configuration is not valid: %w", err)
	}
	return nil
}
