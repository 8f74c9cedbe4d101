// Package podcertificates gets pods the certificates that their projected
// volumes ask for (KEP-4317): the kubelet makes the key, which never leaves
// the node, and a PodCertificateRequest that a signer answers.
package podcertificates

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	certinformers "k8s.io/client-go/informers/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"skiff/kubelet/volumes/volume"
)

var errNotIssued = errors.New("credential bundle is not issued yet")

// Config configures a Manager.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	// Node is the node's object, nil before it registered.
	Node func() *v1.Node
	// Notify is told of the pods whose requests changed; it must not block.
	Notify func(types.UID)
}

// Manager asks for certificates, and for the next ones before they end.
type Manager struct {
	cfg      Config
	now      func() time.Time
	jitter   func(limit time.Duration) time.Duration
	requests cache.SharedIndexInformer
	// used is closed when the first pod wants a certificate: a node without such
	// pods watches nothing.
	used chan struct{}
	once sync.Once

	mu     sync.Mutex // guards states
	states map[source]state
}

// source is one source of a pod's volume.
type source struct {
	pod    types.UID
	volume string
	index  int
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.NodeName == "" || cfg.Node == nil || cfg.Notify == nil {
		return nil, errors.New("podcertificates: Client, NodeName, Node and Notify are required")
	}
	own := fields.OneTermEqualSelector("spec.nodeName", cfg.NodeName).String()
	m := &Manager{cfg: cfg, now: time.Now, jitter: jitter, used: make(chan struct{}), states: map[source]state{}}
	m.requests = certinformers.NewFilteredPodCertificateRequestInformer(cfg.Client, metav1.NamespaceAll, 0, cache.Indexers{}, func(o *metav1.ListOptions) { o.FieldSelector = own })
	tell := func(obj any) {
		if r, ok := obj.(*certificatesv1.PodCertificateRequest); ok && m.has(r.Spec.PodUID) {
			cfg.Notify(r.Spec.PodUID)
		}
	}
	_, err := m.requests.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: tell, UpdateFunc: func(_, obj any) { tell(obj) }, DeleteFunc: func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		tell(obj)
	}})
	return m, err
}

// jitter is a random part of the limit.
func jitter(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return rand.N(limit)
}

// Run watches the node's requests, from when there are any until the context ends.
func (m *Manager) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-m.used:
		m.requests.RunWithContext(ctx)
	}
	return nil
}

// Credentials are the key and the certificates of a source of a projected
// volume, as PEM. They are asked for if need be; until a signer gave them
// there is an error. A pod's are asked for by one caller at a time.
func (m *Manager) Credentials(ctx context.Context, r *volume.Request, index int) (key, chain []byte, err error) {
	m.once.Do(func() { close(m.used) })
	src := r.Volume.Projected.Sources[index].PodCertificate
	id, now := source{r.Pod.UID, r.Volume.Name, index}, m.now()
	m.mu.Lock()
	s, known := m.states[id]
	// It is known before it has a request: the signer may be quick.
	m.states[id] = s
	m.mu.Unlock()
	if !known {
		if s.held = adopt(r.Dir, src, now); s.held != nil {
			s.held.refreshAt = now.Add(m.jitter(min(maxJitter, s.held.notAfter.Sub(now)/2)))
		}
	}
	s, err = m.advance(ctx, r.Pod, src, s, now)
	m.mu.Lock()
	m.states[id] = s
	m.mu.Unlock()
	if err != nil && s.held == nil {
		return nil, nil, err
	}
	return s.credentials(now)
}

// advance does the next step.
func (m *Manager) advance(ctx context.Context, pod *v1.Pod, src *v1.PodCertificateProjection, s state, now time.Time) (state, error) {
	var request *certificatesv1.PodCertificateRequest
	if p := s.pending; p != nil {
		if obj, ok, err := m.requests.GetStore().GetByKey(pod.Namespace + "/" + p.name); err == nil && ok {
			request, _ = obj.(*certificatesv1.PodCertificateRequest)
			s.pending = &pending{name: p.name, key: p.key, seen: true, until: p.until}
		}
	}
	switch decide(s, request, now) {
	case take:
		st := &request.Status
		begin, end := st.BeginRefreshAt.Time, st.NotAfter.Time
		return state{held: &bundle{
			key: s.pending.key, chain: certificates([]byte(st.CertificateChain)),
			refreshAt: begin.Add(m.jitter(min(maxJitter, end.Sub(begin)/2))), notAfter: end,
		}}, nil
	case failed:
		if request != nil {
			s = s.refuse(refusal(request), now)
		}
	case ask:
		s.pending = nil
		p, err := m.ask(ctx, pod, src, now)
		if err != nil {
			return s, fmt.Errorf("while creating initial PodCertificateRequest: %w", err)
		}
		s.pending = p
	case refresh:
		s.pending = nil
		p, err := m.ask(ctx, pod, src, now)
		if err != nil {
			klog.FromContext(ctx).Info("Asking for a pod's next certificate failed, will try again", "pod", klog.KObj(pod), "signer", src.SignerName, "err", err)
			return s.postpone(now), err
		}
		s.pending = p
	}
	return s, nil
}

// ask makes a key and a request.
func (m *Manager) ask(ctx context.Context, pod *v1.Pod, src *v1.PodCertificateProjection, now time.Time) (*pending, error) {
	node := m.cfg.Node()
	if node == nil {
		return nil, fmt.Errorf("node %q is not registered yet", m.cfg.NodeName)
	}
	account, err := m.cfg.Client.CoreV1().ServiceAccounts(pod.Namespace).Get(ctx, pod.Spec.ServiceAccountName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("while fetching service account: %w", err)
	}
	key, proof, err := newKey(src.KeyType)
	if err != nil {
		return nil, err
	}
	made, err := m.cfg.Client.CertificatesV1().PodCertificateRequests(pod.Namespace).Create(ctx, &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "req-", Namespace: pod.Namespace,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}},
		},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: src.SignerName, PodName: pod.Name, PodUID: pod.UID, ServiceAccountName: account.Name, ServiceAccountUID: account.UID,
			NodeName: types.NodeName(node.Name), NodeUID: node.UID, MaxExpirationSeconds: src.MaxExpirationSeconds,
			StubPKCS10Request: proof, UnverifiedUserAnnotations: src.UserAnnotations,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("while creating on API: %w", err)
	}
	return &pending{name: made.Name, key: key, until: now.Add(patience)}, nil
}

// RefreshIn is when the first of the pod's certificates wants to be looked at;
// 0 means that the pod has none.
func (m *Manager) RefreshIn(uid types.UID) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out time.Duration
	now := m.now()
	for id, s := range m.states {
		if at := s.lookAt(now); id.pod == uid && !at.IsZero() {
			if left := max(at.Sub(now), time.Second); out == 0 || left < out {
				out = left
			}
		}
	}
	return out
}

// has says whether the pod is one that wants certificates.
func (m *Manager) has(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.states {
		if id.pod == uid {
			return true
		}
	}
	return false
}

// Forget drops what a pod had.
func (m *Manager) Forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.states {
		if id.pod == uid {
			delete(m.states, id)
		}
	}
}
