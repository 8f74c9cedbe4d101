package podcertificates

import (
	"fmt"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// patience is how long a request may be missing from what the watch tells
	// of before it counts as deleted.
	patience = 10 * time.Minute
	// A refresh that failed is tried again after firstRetry, then twice as
	// long, up to lastRetry.
	firstRetry = 10 * time.Second
	lastRetry  = 10 * time.Minute
	// maxJitter spreads the refreshes of pods that began together.
	maxJitter = 5 * time.Minute
)

// state is what is known of one source of a pod's volume.
type state struct {
	pending *pending
	held    *bundle
	// refused is why the signer gives no certificate at all.
	refused *metav1.Condition
	// failures counts the refreshes that failed in a row, retry is when the next may be.
	failures int
	retry    time.Time
}

// pending is a request that a signer has not answered.
type pending struct {
	name string
	key  []byte
	// seen says that the watch told of it, until is when to expect that at the latest.
	seen  bool
	until time.Time
}

// bundle is a key with its certificates, both as PEM.
type bundle struct {
	key, chain          []byte
	refreshAt, notAfter time.Time
}

// step is what to do next.
type step int

const (
	// nothing: what is held serves on.
	nothing step = iota
	// ask makes a key and a request for the first certificate, refresh for the next.
	ask
	refresh
	// wait is for the signer.
	wait
	// take is for what the signer issued.
	take
	// failed: the signer refused.
	failed
)

// decide says what to do; request is the pending one as the watch knows it, nil if it does not.
func decide(s *state, request *certificatesv1.PodCertificateRequest, now time.Time) step {
	next := ask
	if s.held != nil {
		next = refresh
	}
	switch {
	case s.pending != nil && request != nil:
		return answer(request)
	case s.pending != nil:
		if s.pending.seen || !now.Before(s.pending.until) {
			return next
		}
		return wait
	case s.refused != nil:
		return failed
	case s.held != nil && (now.Before(s.held.refreshAt) || now.Before(s.retry)):
		return nothing
	}
	return next
}

// answer is what the signer said.
func answer(request *certificatesv1.PodCertificateRequest) step {
	if refusal(request) != nil {
		return failed
	}
	st := &request.Status
	for i := range st.Conditions {
		if st.Conditions[i].Type == certificatesv1.PodCertificateRequestConditionTypeIssued && st.BeginRefreshAt != nil && st.NotAfter != nil {
			return take
		}
	}
	return wait
}

// refusal is the condition that says no, nil if there is none.
func refusal(request *certificatesv1.PodCertificateRequest) *metav1.Condition {
	for i := range request.Status.Conditions {
		switch c := &request.Status.Conditions[i]; c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed:
			return c
		}
	}
	return nil
}

// refuse notes that the signer gives nothing. What is held serves until it
// ends, and a new one is asked for again; without one it is final.
func (s *state) refuse(c *metav1.Condition, now time.Time) *state {
	s.pending = nil
	if s.held == nil {
		s.refused = c
		return s
	}
	return s.postpone(now)
}

// postpone puts off the next refresh.
func (s *state) postpone(now time.Time) *state {
	s.retry = now.Add(min(firstRetry<<min(s.failures, 10), lastRetry))
	s.failures++
	return s
}

// credentials is what a pod gets.
func (s *state) credentials(now time.Time) (key, chain []byte, err error) {
	switch {
	case s.held != nil && now.Before(s.held.notAfter):
		return s.held.key, s.held.chain, nil
	case s.held != nil:
		return nil, nil, fmt.Errorf("the certificate ended at %s and there is no newer one yet", s.held.notAfter.UTC().Format(time.RFC3339))
	case s.refused != nil:
		return nil, nil, fmt.Errorf("PodCertificateRequest was permanently %s: reason=%q message=%q", strings.ToLower(s.refused.Type), s.refused.Reason, s.refused.Message)
	}
	return nil, nil, errNotIssued
}

// lookAt is when there is something to do that no watch tells of, zero for never.
func (s *state) lookAt(now time.Time) time.Time {
	var at time.Time
	first := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if s.held != nil && now.Before(s.held.notAfter) {
		// What ends is said to end.
		first(s.held.notAfter)
	}
	switch {
	case s.pending != nil && !s.pending.seen:
		first(s.pending.until)
	case s.pending == nil && s.held != nil && s.retry.After(s.held.refreshAt):
		first(s.retry)
	case s.pending == nil && s.held != nil:
		first(s.held.refreshAt)
	}
	return at
}
