package apiserver

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/serviceaccount"
)

// accessMetrics are those of authentication and authorization, by Kubernetes' names.
type accessMetrics struct {
	attempts, users, authorized *prometheus.CounterVec
	attemptTook, authorizeTook  *prometheus.HistogramVec
	decisions                   *prometheus.CounterVec
	hook, hookOpen              *prometheus.CounterVec
	hookTook                    *prometheus.HistogramVec
	excluded, conditionErrors   *prometheus.CounterVec
}

func newAccessMetrics(r prometheus.Registerer) *accessMetrics {
	short := prometheus.ExponentialBuckets(0.001, 2, 15)
	m := &accessMetrics{
		attempts:        counter("authentication_attempts", "Requests that were authenticated, by result.", "result"),
		attemptTook:     histogram("authentication_duration_seconds", "How long authentication took, by result.", short, "result"),
		users:           counter("authenticated_user_requests", "Requests that were authenticated, by a few users.", "username"),
		authorized:      counter("authorization_attempts_total", "Requests that were authorized, by result.", "result"),
		authorizeTook:   histogram("authorization_duration_seconds", "How long authorization took, by result.", short, "result"),
		decisions:       counter("apiserver_authorization_decisions_total", "Decisions of authorizers.", "type", "name", "decision"),
		hook:            counter("apiserver_authorization_webhook_evaluations_total", "Questions that authorization webhooks were asked, by result.", "name", "result"),
		hookTook:        histogram("apiserver_authorization_webhook_duration_seconds", "How long their answers took.", prometheus.DefBuckets, "name", "result"),
		hookOpen:        counter("apiserver_authorization_webhook_evaluations_fail_open_total", "Failed questions after which other authorizers decided.", "name", "result"),
		excluded:        counter("apiserver_authorization_match_condition_exclusions_total", "Requests that match conditions kept from a webhook.", "type", "name"),
		conditionErrors: counter("apiserver_authorization_match_condition_evaluation_errors_total", "Match conditions that could not be evaluated.", "type", "name"),
	}
	r.MustRegister(m.attempts, m.attemptTook, m.users, m.authorized, m.authorizeTook, m.decisions, m.hook, m.hookTook, m.hookOpen, m.excluded, m.conditionErrors)
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

// newTokenMetrics tells the uses of service accounts' tokens when it is asked.
func newTokenMetrics(r prometheus.Registerer) *serviceaccount.Uses {
	u := &serviceaccount.Uses{}
	told := func(name, help string, n *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(n.Load()) })
	}
	r.MustRegister(
		told("serviceaccount_legacy_tokens_total", "Uses of tokens that are kept in Secrets.", &u.Legacy),
		told("serviceaccount_stale_tokens_total", "Uses of tokens that should have been read anew.", &u.Stale),
		told("serviceaccount_valid_tokens_total", "Uses of tokens that are fresh.", &u.Valid),
	)
	return u
}

// authenticated counts an attempt; user is empty where nobody was found.
func (m *accessMetrics) authenticated(user string, ok bool, err error, took time.Duration) {
	result := "success"
	switch {
	case err != nil:
		result = "error"
	case !ok:
		result = "failure"
	default:
		m.users.WithLabelValues(fewUsers(user)).Inc()
	}
	m.attempts.WithLabelValues(result).Inc()
	m.attemptTook.WithLabelValues(result).Observe(took.Seconds())
}

// fewUsers keeps the number of names small, and people's own out.
func fewUsers(name string) string {
	switch name {
	case "admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default":
		return name
	}
	if strings.Contains(name, "@") {
		return "email_id"
	}
	return "other"
}

// authorize counts a decision about a request.
func (m *accessMetrics) authorize(decision authorizer.Decision, err error, took time.Duration) {
	result := "no-opinion"
	switch {
	case decision == authorizer.DecisionAllow:
		result = "allowed"
	case err != nil:
		result = "error"
	case decision == authorizer.DecisionDeny:
		result = "denied"
	}
	m.authorized.WithLabelValues(result).Inc()
	m.authorizeTook.WithLabelValues(result).Observe(took.Seconds())
}

func (m *accessMetrics) decided(kind, name, decision string) {
	m.decisions.WithLabelValues(kind, name, decision).Inc()
}

// Asked implements webhook.Observer.
func (m *accessMetrics) Asked(name, result string, took time.Duration, open bool) {
	m.hook.WithLabelValues(name, result).Inc()
	m.hookTook.WithLabelValues(name, result).Observe(took.Seconds())
	if open {
		m.hookOpen.WithLabelValues(name, result).Inc()
	}
}

// Excluded implements webhook.Observer.
func (m *accessMetrics) Excluded(name string, failed bool) {
	if failed {
		m.conditionErrors.WithLabelValues("Webhook", name).Inc()
		return
	}
	m.excluded.WithLabelValues("Webhook", name).Inc()
}
