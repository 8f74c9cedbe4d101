// Package authz decides who may do what: it asks the authorizers of the
// --authorization-* flags, or of an AuthorizationConfiguration, in order.
package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"

	"skiff/apiserver/authz/node"
	"skiff/apiserver/authz/rbac"
	"skiff/apiserver/authz/webhook"
)

// The kinds of authorizers beside webhooks, as AuthorizationConfiguration has them.
const (
	typeNode        apiserver.AuthorizerType = "Node"
	typeRBAC        apiserver.AuthorizerType = "RBAC"
	typeAlwaysAllow apiserver.AuthorizerType = "AlwaysAllow"
	typeAlwaysDeny  apiserver.AuthorizerType = "AlwaysDeny"
)

// Config of an Authorizer.
type Config struct {
	// File is an AuthorizationConfiguration, which is read again when it changes. It
	// stands in the place of Modes and Webhook.
	File string
	// ReloadEvery is how often File is looked at; default 5 s.
	ReloadEvery time.Duration
	// Modes in order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny; default Node, RBAC.
	Modes []string
	// Webhook is the service of the mode Webhook.
	Webhook   *WebhookConfig
	Informers informers.SharedInformerFactory
	// Decided is told which authorizer has decided about a request; nil is not.
	Decided func(kind, name, decision string)
	// Webhooks is told of the questions that webhooks are asked; nil is not.
	Webhooks webhook.Observer
	Log      *slog.Logger
}

// Authorizer asks one authorizer after the other: the first that decides ends it.
// The group system:masters may do everything whatever they say.
type Authorizer struct {
	authorizer.AuthorizerFunc

	cfg     Config
	raw     []byte
	rbac    *rbac.Authorizer
	node    authorizer.UnconditionalAuthorizer
	current atomic.Pointer[chain]
}

// chain is what one configuration says.
type chain struct {
	settings *apiserver.AuthorizationConfiguration
	list     []authorizer.UnconditionalAuthorizer
}

// New reads the configuration and makes its authorizers.
func New(c Config) (*Authorizer, error) {
	if c.ReloadEvery == 0 {
		c.ReloadEvery = 5 * time.Second
	}
	a := &Authorizer{cfg: c}
	a.AuthorizerFunc = a.authorize
	settings, raw, err := c.read()
	if err != nil {
		return nil, err
	}
	a.raw = raw
	// These two live on informers, which are made once: they stay when the
	// configuration is read again.
	for _, s := range settings.Authorizers {
		switch s.Type {
		case typeRBAC:
			if a.rbac, err = rbac.New(c.Informers); err != nil {
				return nil, fmt.Errorf("authorization: %w", err)
			}
		case typeNode:
			if a.node, err = node.New(c.Informers); err != nil {
				return nil, fmt.Errorf("authorization: %w", err)
			}
		}
	}
	next, err := a.build(settings)
	if err != nil {
		return nil, err
	}
	a.current.Store(next)
	return a, nil
}

// RBAC is the authorizer of roles, and nil when the server began without it.
func (a *Authorizer) RBAC() *rbac.Authorizer { return a.rbac }

// RulesIncomplete says why the rules of RBAC are not all that u may do; it is empty
// when they are.
func (a *Authorizer) RulesIncomplete(u user.Info) string {
	var out []string
	for _, s := range a.current.Load().settings.Authorizers {
		var text string
		switch s.Type {
		case typeNode:
			if node.Name(u) == "" {
				continue
			}
			text = "node authorizer does not support user rule resolution"
		case apiserver.TypeWebhook:
			text = "webhook authorizer does not support user rule resolution"
		}
		if text != "" && !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

func (a *Authorizer) build(c *apiserver.AuthorizationConfiguration) (*chain, error) {
	out := &chain{settings: c, list: []authorizer.UnconditionalAuthorizer{authorizer.AuthorizerFunc(privileged)}}
	for _, s := range c.Authorizers {
		var next authorizer.UnconditionalAuthorizer
		switch s.Type {
		case typeNode:
			if next = a.node; next == nil {
				return nil, errors.New("authorization: authorizer of type Node: the server began without it: start it again")
			}
		case typeRBAC:
			if a.rbac == nil {
				return nil, errors.New("authorization: authorizer of type RBAC: the server began without it: start it again")
			}
			next = a.rbac
		case typeAlwaysAllow:
			next = authorizer.AuthorizerFunc(allow)
		case typeAlwaysDeny:
			next = authorizer.AuthorizerFunc(deny)
		case apiserver.TypeWebhook:
			hook, err := webhook.New(s.Name, s.Webhook, compilerFor(s.Webhook), a.cfg.Webhooks, a.cfg.Log)
			if err != nil {
				return nil, err
			}
			next = hook
		default:
			return nil, fmt.Errorf("authorization: authorizer of type %q is not known: want one of %s", s.Type, strings.Join(known(), ", "))
		}
		out.list = append(out.list, next)
	}
	return out, nil
}

func (a *Authorizer) authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	var reasons []string
	var errs []error
	current := a.current.Load()
	for i, next := range current.list {
		decision, reason, err := next.Authorize(ctx, attrs)
		if decision != authorizer.DecisionNoOpinion {
			a.decided(current, i, decision)
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
}

// decided tells who has decided. The first is not of the configuration.
func (a *Authorizer) decided(c *chain, i int, decision authorizer.Decision) {
	if a.cfg.Decided == nil || i == 0 {
		return
	}
	text := "denied"
	if decision == authorizer.DecisionAllow {
		text = "allowed"
	}
	s := &c.settings.Authorizers[i-1]
	a.cfg.Decided(string(s.Type), s.Name, text)
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
