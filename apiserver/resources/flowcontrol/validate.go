package flowcontrol

import (
	"context"
	"fmt"

	v1 "k8s.io/api/flowcontrol/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const maxQueues = 10_000_000

var specPath = field.NewPath("spec")

func validateSchema(_ context.Context, o *v1.FlowSchema) field.ErrorList {
	var errs field.ErrorList
	s := &o.Spec
	if s.MatchingPrecedence <= 0 {
		errs = append(errs, field.Invalid(specPath.Child("matchingPrecedence"), s.MatchingPrecedence, "must be a positive value"))
	}
	if s.MatchingPrecedence > 10000 {
		errs = append(errs, field.Invalid(specPath.Child("matchingPrecedence"), s.MatchingPrecedence, fmt.Sprintf("must not be greater than %v", 10000)))
	}
	if s.MatchingPrecedence == 1 && o.Name != "exempt" {
		errs = append(errs, field.Invalid(specPath.Child("matchingPrecedence"), s.MatchingPrecedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if d := s.DistinguisherMethod; d != nil && d.Type != v1.FlowDistinguisherMethodByUserType && d.Type != v1.FlowDistinguisherMethodByNamespaceType {
		errs = append(errs, field.NotSupported(specPath.Child("distinguisherMethod", "type"), d.Type, []v1.FlowDistinguisherMethodType{v1.FlowDistinguisherMethodByNamespaceType, v1.FlowDistinguisherMethodByUserType}))
	}
	if s.PriorityLevelConfiguration.Name == "" {
		errs = append(errs, field.Required(specPath.Child("priorityLevelConfiguration", "name"), "must reference a priority level"))
	} else {
		for _, msg := range apivalidation.NameIsDNSSubdomain(s.PriorityLevelConfiguration.Name, false) {
			errs = append(errs, field.Invalid(specPath.Child("priorityLevelConfiguration", "name"), s.PriorityLevelConfiguration.Name, msg))
		}
	}
	for i, r := range s.Rules {
		at := specPath.Child("rules").Index(i)
		if len(r.Subjects) == 0 {
			errs = append(errs, field.Required(at.Child("subjects"), "subjects must contain at least one value"))
		}
		for j, sub := range r.Subjects {
			errs = append(errs, subject(&sub, at.Child("subjects").Index(j))...)
		}
		if len(r.ResourceRules) == 0 && len(r.NonResourceRules) == 0 {
			errs = append(errs, field.Required(at, "at least one of resourceRules and nonResourceRules has to be non-empty"))
		}
		for j := range r.ResourceRules {
			errs = append(errs, resourceRule(&r.ResourceRules[j], at.Child("resourceRules").Index(j))...)
		}
		for j := range r.NonResourceRules {
			errs = append(errs, urlRule(&r.NonResourceRules[j], at.Child("nonResourceRules").Index(j))...)
		}
	}
	return errs
}

// status is the conditions of either kind: each of a type, once.
func status[T, S ~string](types []T, states []S) field.ErrorList {
	var errs field.ErrorList
	seen := map[T]bool{}
	for i, t := range types {
		at := field.NewPath("status", "conditions").Index(i)
		if seen[t] {
			errs = append(errs, field.Duplicate(at.Child("type"), t))
		}
		seen[t] = true
		if t == "" {
			errs = append(errs, field.Required(at.Child("type"), "must not be empty"))
		}
		if states[i] == "" {
			errs = append(errs, field.Required(at.Child("status"), "must not be empty"))
		}
	}
	return errs
}

func schemaStatus(_ context.Context, o, _ *v1.FlowSchema) field.ErrorList {
	var types []v1.FlowSchemaConditionType
	var states []v1.ConditionStatus
	for _, c := range o.Status.Conditions {
		types, states = append(types, c.Type), append(states, c.Status)
	}
	return status(types, states)
}

func levelStatus(_ context.Context, o, _ *v1.PriorityLevelConfiguration) field.ErrorList {
	var types []v1.PriorityLevelConfigurationConditionType
	var states []v1.ConditionStatus
	for _, c := range o.Status.Conditions {
		types, states = append(types, c.Type), append(states, c.Status)
	}
	return status(types, states)
}

func subject(s *v1.Subject, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	check := func(kind v1.SubjectKind, child string, set bool) {
		if s.Kind == kind && !set {
			errs = append(errs, field.Required(at.Child(child), fmt.Sprintf("%s is required when subject kind is '%s'", child, kind)))
		}
		if s.Kind != kind && set {
			errs = append(errs, field.Forbidden(at.Child(child), fmt.Sprintf("%s is forbidden when subject kind is not '%s'", child, kind)))
		}
	}
	name := func(text string, at *field.Path) {
		if text == "" {
			errs = append(errs, field.Required(at, ""))
		}
	}
	if s.User != nil {
		name(s.User.Name, at.Child("user", "name"))
	}
	if s.Group != nil {
		name(s.Group.Name, at.Child("group", "name"))
	}
	if a := s.ServiceAccount; a != nil {
		at := at.Child("serviceAccount")
		name(a.Name, at.Child("name"))
		if a.Name != "" && a.Name != v1.NameAll {
			for _, msg := range apivalidation.ValidateServiceAccountName(a.Name, false) {
				errs = append(errs, field.Invalid(at.Child("name"), a.Name, msg))
			}
		}
		if a.Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), "must specify namespace for service account"))
		} else {
			for _, msg := range apivalidation.ValidateNamespaceName(a.Namespace, false) {
				errs = append(errs, field.Invalid(at.Child("namespace"), a.Namespace, msg))
			}
		}
	}
	switch s.Kind {
	case v1.SubjectKindServiceAccount, v1.SubjectKindUser, v1.SubjectKindGroup:
		check(v1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil)
		check(v1.SubjectKindUser, "user", s.User != nil)
		check(v1.SubjectKindGroup, "group", s.Group != nil)
	default:
		errs = append(errs, field.NotSupported(at.Child("kind"), s.Kind, []v1.SubjectKind{v1.SubjectKindGroup, v1.SubjectKindServiceAccount, v1.SubjectKindUser}))
	}
	return errs
}

func validateLevel(_ context.Context, o *v1.PriorityLevelConfiguration) field.ErrorList {
	var errs field.ErrorList
	s := &o.Spec
	if (o.Name == "exempt") != (s.Type == v1.PriorityLevelEnablementExempt) {
		errs = append(errs, field.Invalid(specPath.Child("type"), s.Type, "type must be 'Exempt' if and only if `name` is 'exempt'"))
	}
	switch s.Type {
	case v1.PriorityLevelEnablementExempt:
		if e := s.Exempt; e != nil {
			errs = append(errs, shares(e.NominalConcurrencyShares, e.LendablePercent, specPath.Child("exempt"))...)
		}
		if s.Limited != nil {
			errs = append(errs, field.Forbidden(specPath.Child("limited"), "must be nil if the type is not Limited"))
		}
	case v1.PriorityLevelEnablementLimited:
		if s.Exempt != nil {
			errs = append(errs, field.Forbidden(specPath.Child("exempt"), "must be nil if the type is Limited"))
		}
		if s.Limited == nil {
			return append(errs, field.Required(specPath.Child("limited"), "must not be empty when type is Limited"))
		}
		errs = append(errs, limited(s.Limited, specPath.Child("limited"))...)
	default:
		errs = append(errs, field.NotSupported(specPath.Child("type"), s.Type, []v1.PriorityLevelEnablement{v1.PriorityLevelEnablementExempt, v1.PriorityLevelEnablementLimited}))
	}
	return errs
}

func shares(n, lendable *int32, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n != nil && *n < 0 {
		errs = append(errs, field.Invalid(at.Child("nominalConcurrencyShares"), *n, "must be a non-negative integer"))
	}
	if p := lendable; p != nil && (*p < 0 || *p > 100) {
		errs = append(errs, field.Invalid(at.Child("lendablePercent"), *p, "must be between 0 and 100, inclusive"))
	}
	return errs
}

func limited(l *v1.LimitedPriorityLevelConfiguration, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	errs = append(errs, shares(l.NominalConcurrencyShares, l.LendablePercent, at)...)
	if p := l.BorrowingLimitPercent; p != nil && *p < 0 {
		errs = append(errs, field.Invalid(at.Child("borrowingLimitPercent"), *p, "if specified, must be a non-negative integer"))
	}
	at = at.Child("limitResponse")
	q := l.LimitResponse.Queuing
	switch l.LimitResponse.Type {
	case v1.LimitResponseTypeReject:
		if q != nil {
			errs = append(errs, field.Forbidden(at.Child("queuing"), "must be nil if limited.limitResponse.type is not Limited"))
		}
	case v1.LimitResponseTypeQueue:
		if q == nil {
			return append(errs, field.Required(at.Child("queuing"), "must not be empty if limited.limitResponse.type is Limited"))
		}
		at := at.Child("queuing")
		if q.QueueLengthLimit <= 0 {
			errs = append(errs, field.Invalid(at.Child("queueLengthLimit"), q.QueueLengthLimit, "must be positive"))
		}
		switch {
		case q.Queues <= 0:
			errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, "must be positive"))
		case q.Queues > maxQueues:
			errs = append(errs, field.Invalid(at.Child("queues"), q.Queues, fmt.Sprintf("must not be greater than %d", maxQueues)))
		}
		if q.HandSize <= 0 {
			errs = append(errs, field.Invalid(at.Child("handSize"), q.HandSize, "must be positive"))
		} else if q.HandSize > q.Queues {
			errs = append(errs, field.Invalid(at.Child("handSize"), q.HandSize, fmt.Sprintf("should not be greater than queues (%d)", q.Queues)))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("type"), l.LimitResponse.Type, []v1.LimitResponseType{v1.LimitResponseTypeQueue, v1.LimitResponseTypeReject}))
	}
	return errs
}
