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

	mu sync.Mutex // guards pods, not what is in a state: that is of a pod's one caller
	// pods have a state for each source of their volumes.
	pods map[types.UID]map[string]*state
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.NodeName == "" || cfg.Node == nil || cfg.Notify == nil {
		return nil, errors.New("podcertificates: Client, NodeName, Node and Notify are required")
	}
	own := fields.OneTermEqualSelector("spec.nodeName", cfg.NodeName).String()
	m := &Manager{cfg: cfg, now: time.Now, jitter: jitter, used: make(chan struct{}), pods: map[types.UID]map[string]*state{}}
	m.requests = certinformers.NewFilteredPodCertificateRequestInformer(cfg.Client, metav1.NamespaceAll, 0, cache.Indexers{}, func(o *metav1.ListOptions) { o.FieldSelector = own })
	tell := func(obj any) {
		if r, ok := obj.(*certificatesv1.PodCertificateRequest); ok {
			m.mu.Lock()
			mine := m.pods[r.Spec.PodUID] != nil
			m.mu.Unlock()
			if mine {
				cfg.Notify(r.Spec.PodUID)
			}
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
	src, now := r.Volume.Projected.Sources[index].PodCertificate, m.now()
	s, known := m.state(r.Pod.UID, fmt.Sprintf("%s/%d", r.Volume.Name, index))
	if !known {
		if s.held = adopt(r.Dir, src, now); s.held != nil {
			s.held.refreshAt = m.spread(now, s.held.notAfter)
		}
	}
	if err := m.advance(ctx, r.Pod, src, s, now); err != nil && s.held == nil {
		return nil, nil, fmt.Errorf("while creating initial PodCertificateRequest: %w", err)
	}
	return s.credentials(now)
}

// state is of one source of a pod's volumes. It is known before it has a
// request: the signer may be quick.
func (m *Manager) state(pod types.UID, source string) (s *state, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, known = m.pods[pod][source]; known {
		return s, true
	}
	if m.pods[pod] == nil {
		m.pods[pod] = map[string]*state{}
	}
	s = &state{}
	m.pods[pod][source] = s
	return s, false
}

// spread puts off what begins then, but not to the end.
func (m *Manager) spread(begin, end time.Time) time.Time {
	return begin.Add(m.jitter(min(maxJitter, end.Sub(begin)/2)))
}

// advance does the next step.
func (m *Manager) advance(ctx context.Context, pod *v1.Pod, src *v1.PodCertificateProjection, s *state, now time.Time) (err error) {
	var request *certificatesv1.PodCertificateRequest
	if s.pending != nil {
		if obj, ok, err := m.requests.GetStore().GetByKey(pod.Namespace + "/" + s.pending.name); err == nil && ok {
			request, s.pending.seen = obj.(*certificatesv1.PodCertificateRequest)
		}
	}
	switch decide(s, request, now) {
	case take:
		st := &request.Status
		*s = state{held: &bundle{
			key: s.pending.key, chain: certificates([]byte(st.CertificateChain)),
			refreshAt: m.spread(st.BeginRefreshAt.Time, st.NotAfter.Time), notAfter: st.NotAfter.Time,
		}}
	case failed:
		if request != nil {
			s.refuse(refusal(request), now)
		}
	case ask, refresh:
		if s.pending, err = m.ask(ctx, pod, src, now); err != nil && s.held != nil {
			klog.FromContext(ctx).Info("Asking for a pod's next certificate failed, will try again", "pod", klog.KObj(pod), "err", err)
			s.postpone(now)
		}
	}
	return err
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
	for _, s := range m.pods[uid] {
		if at := s.lookAt(now); !at.IsZero() {
			if left := max(at.Sub(now), time.Second); out == 0 || left < out {
				out = left
			}
		}
	}
	return out
}

// Forget drops what a pod had.
func (m *Manager) Forget(uid types.UID) {
	m.mu.Lock()
	delete(m.pods, uid)
	m.mu.Unlock()
}
