package audit

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

var (
	levels = []auditv1.Level{auditv1.LevelNone, auditv1.LevelMetadata, auditv1.LevelRequest, auditv1.LevelRequestResponse}
	stages = []auditv1.Stage{auditv1.StageRequestReceived, auditv1.StageResponseStarted, auditv1.StageResponseComplete, auditv1.StagePanic}
)

// checkPolicy refuses rules that would not do what they seem to say.
func checkPolicy(p *auditv1.Policy) field.ErrorList {
	errs := checkStages(p.OmitStages, field.NewPath("omitStages"))
	for i := range p.Rules {
		errs = append(errs, checkRule(&p.Rules[i], field.NewPath("rules").Index(i))...)
	}
	return errs
}

func checkRule(r *auditv1.PolicyRule, p *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case r.Level == "":
		errs = append(errs, field.Required(p.Child("level"), ""))
	case !slices.Contains(levels, r.Level):
		errs = append(errs, field.NotSupported(p.Child("level"), r.Level, levels))
	}
	urls := p.Child("nonResourceURLs")
	for i, url := range r.NonResourceURLs {
		if url == "*" {
			continue
		}
		if !strings.HasPrefix(url, "/") {
			errs = append(errs, field.Invalid(urls.Index(i), url, "non-resource URL rules must begin with a '/' character"))
		}
		if strings.Contains(strings.TrimSuffix(url, "*"), "*") {
			errs = append(errs, field.Invalid(urls.Index(i), url, "non-resource URL wildcards '*' must be the final character of the rule"))
		}
	}
	for _, g := range r.Resources {
		if g.Group != "" && g.Group != "*" {
			if texts := validation.NameIsDNSSubdomain(g.Group, false); len(texts) > 0 {
				errs = append(errs, field.Invalid(p.Child("resources", "group"), g.Group, strings.Join(texts, ",")))
			}
		}
		if len(g.ResourceNames) > 0 && len(g.Resources) == 0 {
			errs = append(errs, field.Invalid(p.Child("resources", "resourceNames"), g.ResourceNames, "using resourceNames requires at least one resource"))
		}
	}
	errs = append(errs, checkStages(r.OmitStages, p.Child("omitStages"))...)
	if len(r.NonResourceURLs) > 0 && (len(r.Resources) > 0 || len(r.Namespaces) > 0) {
		errs = append(errs, field.Invalid(urls, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
	}
	return errs
}

func checkStages(list []auditv1.Stage, p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range list {
		if !slices.Contains(stages, s) {
			errs = append(errs, field.Invalid(p.Index(i), s, "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic"))
		}
	}
	return errs
}
