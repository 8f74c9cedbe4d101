// Package audit records who did what: a policy file says which requests, in
// which detail and at which stages, and a sink takes the events.
package audit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/request"
)

// Policy decides how a request is recorded.
type Policy struct{ p auditv1.Policy }

// LoadPolicy reads a policy file.
func LoadPolicy(path string) (*Policy, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("audit policy: %w", err)
	}
	p, err := ParsePolicy(b)
	if err != nil {
		return nil, fmt.Errorf("audit policy %s: %w", path, err)
	}
	return p, nil
}

// ParsePolicy reads a policy.
func ParsePolicy(b []byte) (*Policy, error) {
	var p auditv1.Policy
	if err := yaml.UnmarshalStrict(b, &p); err != nil {
		return nil, err
	}
	if p.APIVersion != auditv1.SchemeGroupVersion.String() || p.Kind != "Policy" {
		return nil, fmt.Errorf("it is a %s of %s: want a Policy of %s", p.Kind, p.APIVersion, auditv1.SchemeGroupVersion)
	}
	if len(p.Rules) == 0 {
		return nil, errors.New("rules is empty: nothing would be recorded; give at least one rule")
	}
	if errs := checkPolicy(&p); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return &Policy{p}, nil
}

// decision is how one request is recorded.
type decision struct {
	level             auditv1.Level
	omit              []auditv1.Stage
	omitManagedFields bool
}

// bodies says whether requests are recorded with their bodies.
func (d decision) bodies() bool {
	return d.level == auditv1.LevelRequest || d.level == auditv1.LevelRequestResponse
}

// decide is the first rule that matches; without one nothing is recorded.
func (p *Policy) decide(u user.Info, info *request.Info) decision {
	for i := range p.p.Rules {
		r := &p.p.Rules[i]
		if !matches(r, u, info) {
			continue
		}
		d := decision{level: r.Level, omit: append(slices.Clone(p.p.OmitStages), r.OmitStages...), omitManagedFields: p.p.OmitManagedFields}
		if r.OmitManagedFields != nil {
			d.omitManagedFields = *r.OmitManagedFields
		}
		return d
	}
	return decision{level: auditv1.LevelNone}
}

func matches(r *auditv1.PolicyRule, u user.Info, info *request.Info) bool {
	if len(r.Users) > 0 && (u == nil || !slices.Contains(r.Users, u.GetName())) {
		return false
	}
	if len(r.UserGroups) > 0 && (u == nil || !slices.ContainsFunc(r.UserGroups, func(g string) bool { return slices.Contains(u.GetGroups(), g) })) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, info.Verb) {
		return false
	}
	if len(r.Namespaces) > 0 || len(r.Resources) > 0 {
		return matchesResource(r, info)
	}
	if len(r.NonResourceURLs) > 0 {
		return !info.IsResource && slices.ContainsFunc(r.NonResourceURLs, func(spec string) bool { return matchesPath(spec, info.Path) })
	}
	return true
}

func matchesPath(spec, path string) bool {
	if prefix, ok := strings.CutSuffix(spec, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return spec == path
}

func matchesResource(r *auditv1.PolicyRule, info *request.Info) bool {
	if !info.IsResource {
		return false
	}
	if len(r.Namespaces) > 0 && !slices.Contains(r.Namespaces, info.Namespace) {
		return false
	}
	if len(r.Resources) == 0 {
		return true
	}
	combined := info.Resource
	if info.Subresource != "" {
		combined += "/" + info.Subresource
	}
	for _, gr := range r.Resources {
		if gr.Group != info.APIGroup && gr.Group != "*" {
			continue
		}
		if len(gr.Resources) == 0 {
			return true
		}
		for _, spec := range gr.Resources {
			if (len(gr.ResourceNames) == 0 || slices.Contains(gr.ResourceNames, info.Name)) && matchesName(spec, combined, info) {
				return true
			}
		}
	}
	return false
}

// matchesName: "*", "pods", "pods/log", "pods/*" and "*/status".
func matchesName(spec, combined string, info *request.Info) bool {
	if spec == "*" || spec == combined {
		return true
	}
	if name, ok := strings.CutSuffix(spec, "/*"); ok && name == info.Resource {
		return true
	}
	sub, ok := strings.CutPrefix(spec, "*/")
	return ok && info.Subresource != "" && sub == info.Subresource
}
