// Package tokens gets service account tokens for pods and renews them before
// they expire.
package tokens

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// maxTTL is how old a token gets at most before it is renewed.
const maxTTL = 24 * time.Hour

// Manager caches tokens.
type Manager struct {
	client kubernetes.Interface
	now    func() time.Time

	mu     sync.Mutex // guards tokens
	tokens map[string]*entry
}

type entry struct {
	uid    types.UID
	status authenticationv1.TokenRequestStatus
	renew  time.Time
}

// New returns a manager.
func New(client kubernetes.Interface) *Manager {
	return &Manager{client: client, now: time.Now, tokens: map[string]*entry{}}
}

// Token returns a valid token that is bound to the pod.
func (m *Manager) Token(ctx context.Context, pod *v1.Pod, audience string, expiration *int64) (*authenticationv1.TokenRequestStatus, error) {
	key := fmt.Sprintf("%s/%s/%s/%d", pod.UID, pod.Spec.ServiceAccountName, audience, ptr.Deref(expiration, 3600))
	now := m.now()
	m.mu.Lock()
	e := m.tokens[key]
	m.mu.Unlock()
	if e != nil && now.Before(e.renew) {
		return &e.status, nil
	}
	spec := authenticationv1.TokenRequestSpec{
		ExpirationSeconds: expiration,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}
	if audience != "" {
		spec.Audiences = []string{audience}
	}
	got, err := m.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		if e != nil && now.Before(e.status.ExpirationTimestamp.Time) {
			// The old one serves until the API server does again.
			return &e.status, nil
		}
		return nil, err
	}
	ttl := got.Status.ExpirationTimestamp.Sub(now)
	if expiration != nil {
		ttl = time.Duration(*expiration) * time.Second
	}
	renew := got.Status.ExpirationTimestamp.Add(-ttl / 5)
	if limit := now.Add(maxTTL); renew.After(limit) {
		renew = limit
	}
	m.mu.Lock()
	m.tokens[key] = &entry{uid: pod.UID, status: got.Status, renew: renew}
	m.mu.Unlock()
	return &got.Status, nil
}

// RenewIn is when the first of the pod's tokens has to be renewed; 0 means
// that the pod has none.
func (m *Manager) RenewIn(uid types.UID) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out time.Duration
	for _, e := range m.tokens {
		if e.uid == uid {
			left := max(e.renew.Sub(m.now()), time.Second)
			if out == 0 || left < out {
				out = left
			}
		}
	}
	return out
}

// Forget drops the tokens of a pod.
func (m *Manager) Forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.tokens {
		if strings.HasPrefix(key, string(uid)+"/") {
			delete(m.tokens, key)
		}
	}
}
