// Package webhook asks another service, by a SubjectAccessReview, whether a
// request may be done.
package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	utilcache "k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/client-go/tools/clientcmd"

	"skiff/apiserver/authn/webhookclient"
)

const (
	// cacheSize bounds the answers kept, maxReason the size of each.
	cacheSize = 8192
	maxReason = 4096
)

// Authorizer is one service that is asked. It is an authorizer.UnconditionalAuthorizer.
type Authorizer struct {
	name, version   string
	client          *webhookclient.Client
	timeout         time.Duration
	onError         authorizer.Decision
	conditions      *authorizationcel.CELMatcher
	allowed, others time.Duration
	answers         *utilcache.LRUExpireCache
	observer        Observer
	log             *slog.Logger
}

// Observer is told of questions. name is the authorizer's.
type Observer interface {
	// Asked is told how one ended: success, canceled, timeout or error. open: the
	// request may still be allowed by another authorizer, though this one failed.
	Asked(name, result string, took time.Duration, open bool)
	// Excluded is told of a request that a match condition keeps from being asked
	// about; failed of a condition that could not be evaluated.
	Excluded(name string, failed bool)
}

// New makes the authorizer of a configuration that is valid. The compiler is
// needed only where it has match conditions.
func New(name string, c *apiserver.WebhookConfiguration, compiler authorizationcel.Compiler, observer Observer, log *slog.Logger) (*Authorizer, error) {
	if c.ConnectionInfo.KubeConfigFile == nil {
		return nil, fmt.Errorf("authorization webhook %s: connectionInfo.type %q: want KubeConfigFile with a kubeConfigFile: the API server has no other cluster to ask", name, c.ConnectionInfo.Type)
	}
	file := *c.ConnectionInfo.KubeConfigFile
	cfg, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, fmt.Errorf("authorization webhook %s: kubeconfig %s: %w", name, file, err)
	}
	client, err := webhookclient.New(cfg, c.Timeout.Duration)
	if err != nil {
		return nil, fmt.Errorf("authorization webhook %s: kubeconfig %s: %w", name, file, err)
	}
	matcher, errs := validation.ValidateAndCompileMatchConditions(compiler, c.MatchConditions)
	if err := errs.ToAggregate(); err != nil {
		return nil, fmt.Errorf("authorization webhook %s: %w", name, err)
	}
	a := &Authorizer{
		name: name, version: c.SubjectAccessReviewVersion, client: client, timeout: c.Timeout.Duration,
		onError: authorizer.DecisionNoOpinion, conditions: matcher, answers: utilcache.NewLRUExpireCache(cacheSize), observer: observer, log: log,
	}
	if c.FailurePolicy == apiserver.FailurePolicyDeny {
		a.onError = authorizer.DecisionDeny
	}
	if c.CacheAuthorizedRequests {
		a.allowed = c.AuthorizedTTL.Duration
	}
	if c.CacheUnauthorizedRequests {
		a.others = c.UnauthorizedTTL.Duration
	}
	return a, nil
}

// Authorize asks, unless a match condition says no or the answer is known.
func (a *Authorizer) Authorize(ctx context.Context, attrs authorizer.Attributes) (authorizer.Decision, string, error) {
	s := spec(attrs)
	if a.conditions != nil {
		ok, err := a.conditions.Eval(ctx, &authorizationv1.SubjectAccessReview{Spec: s})
		if a.observer != nil && !ok {
			a.observer.Excluded(a.name, err != nil)
		}
		if err != nil {
			return a.onError, "", fmt.Errorf("authorization webhook %s: %w", a.name, err)
		}
		if !ok {
			return authorizer.DecisionNoOpinion, "", nil
		}
	}
	status, err := a.ask(ctx, s)
	switch {
	case err != nil:
		// Another authorizer may allow the request, and then nobody else hears of this.
		if ctx.Err() == nil {
			a.log.Error("an authorization webhook does not answer", "name", a.name, "decision", a.onError.String(), "err", err)
		}
		return a.onError, "", fmt.Errorf("authorization webhook %s: %w", a.name, err)
	case status.Denied && status.Allowed:
		return authorizer.DecisionDeny, status.Reason, errors.New("webhook subject access review returned both allow and deny response")
	case status.Denied:
		return authorizer.DecisionDeny, status.Reason, nil
	case status.Allowed:
		return authorizer.DecisionAllow, status.Reason, nil
	}
	return authorizer.DecisionNoOpinion, status.Reason, nil
}

// ask gives the answer that is kept, or the service's. Failures are not kept.
func (a *Authorizer) ask(ctx context.Context, s authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	in := review(a.version, s)
	text, err := json.Marshal(in)
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	// A sum, since clients choose how long names and selectors are.
	key := sha256.Sum256(text)
	if hit, ok := a.answers.Get(key); ok {
		return hit.(authorizationv1.SubjectAccessReviewStatus), nil
	}
	var out authorizationv1.SubjectAccessReview
	if err := a.post(ctx, in, &out); err != nil {
		return out.Status, err
	}
	if out.APIVersion != "" && out.APIVersion != in.APIVersion || out.Kind != "" && out.Kind != in.Kind {
		return out.Status, fmt.Errorf("the answer is a %s of %s: want a %s of %s", out.Kind, out.APIVersion, in.Kind, in.APIVersion)
	}
	ttl := a.others
	if out.Status.Allowed {
		ttl = a.allowed
	}
	if ttl > 0 && len(out.Status.Reason)+len(out.Status.EvaluationError) <= maxReason {
		a.answers.Add(key, out.Status, ttl)
	}
	return out.Status, nil
}

// post asks the service. The time is for the whole answer: tries that follow a
// failure are within it.
func (a *Authorizer) post(ctx context.Context, in posted, out *authorizationv1.SubjectAccessReview) error {
	asked, start := ctx, time.Now()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	err := a.client.Post(ctx, in, out)
	if a.observer == nil {
		return err
	}
	result := "success"
	switch {
	case err == nil:
	case asked.Err() != nil:
		result = "canceled"
	case ctx.Err() != nil:
		result = "timeout"
	default:
		result = "error"
	}
	a.observer.Asked(a.name, result, time.Since(start), err != nil && a.onError == authorizer.DecisionNoOpinion)
	return err
}
