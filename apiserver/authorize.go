package apiserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/authz/node"
	"skiff/apiserver/authz/rbac"
)

// authorization builds the authorizers in the order of the modes. The group
// system:masters may do everything whatever they say.
func (s *Server) authorization() error {
	list := []authorizer.UnconditionalAuthorizer{authorizer.AuthorizerFunc(privileged)}
	for _, mode := range s.cfg.AuthorizationModes {
		switch mode {
		case "RBAC":
			r, err := rbac.New(s.core.Informers)
			if err != nil {
				return fmt.Errorf("apiserver: %w", err)
			}
			s.core.RBAC = r
			list = append(list, r)
		case "Node":
			n, err := node.New(s.core.Informers)
			if err != nil {
				return fmt.Errorf("apiserver: %w", err)
			}
			list = append(list, n)
		case "AlwaysAllow":
			list = append(list, authorizer.AuthorizerFunc(allow))
		case "AlwaysDeny":
			list = append(list, authorizer.AuthorizerFunc(deny))
		default:
			return fmt.Errorf("apiserver: authorization mode %q is not known: want Node, RBAC, AlwaysAllow or AlwaysDeny", mode)
		}
	}
	s.core.Authorizer = union(list)
	return nil
}

// union asks one after the other: the first that decides ends it.
func union(list []authorizer.UnconditionalAuthorizer) authorizer.Authorizer {
	return authorizer.AuthorizerFunc(func(ctx context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		var reasons []string
		var errs []error
		for _, next := range list {
			decision, reason, err := next.Authorize(ctx, a)
			if decision != authorizer.DecisionNoOpinion {
				return decision, reason, err
			}
			if reason != "" {
				reasons = append(reasons, reason)
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
		return authorizer.DecisionNoOpinion, strings.Join(reasons, "\n"), errors.Join(errs...)
	})
}

// privileged allows the cluster's masters.
func privileged(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if u := a.GetUser(); u != nil && slices.Contains(u.GetGroups(), user.SystemPrivilegedGroup) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func allow(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionAllow, "", nil
}

func deny(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionNoOpinion, "Everything is forbidden.", nil
}
