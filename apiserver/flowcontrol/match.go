package flowcontrol

import (
	"cmp"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/request"
)

// order sorts schemas as they are tried: by precedence, then by name.
func order(schemas []*flowcontrolv1.FlowSchema) {
	slices.SortFunc(schemas, func(a, b *flowcontrolv1.FlowSchema) int {
		return cmp.Or(cmp.Compare(a.Spec.MatchingPrecedence, b.Spec.MatchingPrecedence), cmp.Compare(a.Name, b.Name))
	})
}

// matches tells whether the schema is about the request.
func matches(s *flowcontrolv1.FlowSchema, u user.Info, info *request.Info) bool {
	return slices.ContainsFunc(s.Spec.Rules, func(r flowcontrolv1.PolicyRulesWithSubjects) bool {
		return slices.ContainsFunc(r.Subjects, func(s flowcontrolv1.Subject) bool { return matchesSubject(s, u) }) && matchesRule(r, info)
	})
}

func matchesSubject(s flowcontrolv1.Subject, u user.Info) bool {
	switch s.Kind {
	case flowcontrolv1.SubjectKindUser:
		return s.User != nil && (s.User.Name == flowcontrolv1.NameAll || s.User.Name == u.GetName())
	case flowcontrolv1.SubjectKindGroup:
		return s.Group != nil && (s.Group.Name == flowcontrolv1.NameAll || slices.Contains(u.GetGroups(), s.Group.Name))
	case flowcontrolv1.SubjectKindServiceAccount:
		if s.ServiceAccount == nil {
			return false
		}
		namespace, name, err := serviceaccount.SplitUsername(u.GetName())
		return err == nil && namespace == s.ServiceAccount.Namespace && (s.ServiceAccount.Name == flowcontrolv1.NameAll || name == s.ServiceAccount.Name)
	}
	return false
}

func has(list []string, value string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, value)
}

func matchesRule(r flowcontrolv1.PolicyRulesWithSubjects, info *request.Info) bool {
	if !info.IsResource {
		return slices.ContainsFunc(r.NonResourceRules, func(n flowcontrolv1.NonResourcePolicyRule) bool {
			return has(n.Verbs, info.Verb) && slices.ContainsFunc(n.NonResourceURLs, func(spec string) bool { return matchesURL(spec, info.Path) })
		})
	}
	name := info.Resource
	if info.Subresource != "" {
		name += "/" + info.Subresource
	}
	return slices.ContainsFunc(r.ResourceRules, func(p flowcontrolv1.ResourcePolicyRule) bool {
		if !has(p.Verbs, info.Verb) || !has(p.APIGroups, info.APIGroup) || !has(p.Resources, name) {
			return false
		}
		if info.Namespace == "" {
			return p.ClusterScope
		}
		return has(p.Namespaces, info.Namespace)
	})
}

func matchesURL(spec, path string) bool {
	if spec == "*" || spec == path {
		return true
	}
	prefix, ok := strings.CutSuffix(spec, "*")
	return ok && strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix)
}

// distinguish names the flow within its schema.
func distinguish(s *flowcontrolv1.FlowSchema, u user.Info, info *request.Info) string {
	m := s.Spec.DistinguisherMethod
	switch {
	case m == nil:
		return ""
	case m.Type == flowcontrolv1.FlowDistinguisherMethodByUserType:
		return u.GetName()
	case m.Type == flowcontrolv1.FlowDistinguisherMethodByNamespaceType:
		return info.Namespace
	}
	return ""
}
