package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"skiff/kubelet/containers"
)

// Config configures a Manager.
type Config struct {
	Client kubernetes.Interface
	// Pod returns the newest known API object of a pod. For a static pod that
	// is its mirror; nil means that the API server has none.
	Pod func(types.UID) *v1.Pod
	// Deletable reports whether everything of a deleted pod is gone from the
	// node, so that its object may go.
	Deletable func(types.UID) bool
	// Workers send statuses in parallel. Default 4.
	Workers int
}

// Manager keeps statuses and sends them.
type Manager struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex // guards what follows
	pods    map[types.UID]*entry
	queue   []types.UID
	queued  map[types.UID]bool
	sending map[types.UID]bool
}

type entry struct {
	status v1.PodStatus
	// version counts changes; sent is the last version the server has.
	version, sent uint64
	namespace     string
	name          string
	static        bool
	failures      int
	// server is the pod as the server answered last, which Config.Pod may not show yet.
	server *v1.Pod
}

// NewManager checks the configuration.
func NewManager(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.Pod == nil || cfg.Deletable == nil {
		return nil, errors.New("status: Client, Pod and Deletable are required")
	}
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	return &Manager{cfg: cfg, wake: make(chan struct{}, 1), pods: map[types.UID]*entry{}, queued: map[types.UID]bool{}, sending: map[types.UID]bool{}}, nil
}

// Get returns the newest status of a pod; false means there is none yet.
func (m *Manager) Get(uid types.UID) (v1.PodStatus, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.pods[uid]
	if e == nil {
		return v1.PodStatus{}, false
	}
	return *e.status.DeepCopy(), true
}

// Set stores a pod's status and sends it when it differs from the last.
func (m *Manager) Set(pod *v1.Pod, status v1.PodStatus, static bool) {
	status = normalized(status)
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.pods[pod.UID]
	if e == nil {
		e = &entry{namespace: pod.Namespace, name: pod.Name, static: static}
		m.pods[pod.UID] = e
	} else if equality.Semantic.DeepEqual(e.status, status) {
		if pod.DeletionTimestamp != nil || e.version != e.sent {
			m.enqueue(pod.UID)
		}
		return
	}
	e.status = status
	e.version++
	m.enqueue(pod.UID)
}

// Poke looks at a pod again, because its object or its node state changed.
func (m *Manager) Poke(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enqueue(uid)
}

// Resend sends a pod's status again, because the server's copy is another.
func (m *Manager) Resend(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.pods[uid]; e != nil {
		e.sent = 0
		m.enqueue(uid)
	}
}

// Forget drops a pod whose object is gone.
func (m *Manager) Forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, uid)
}

// enqueue notes work. Caller holds mu.
func (m *Manager) enqueue(uid types.UID) {
	if m.queued[uid] {
		return
	}
	m.queued[uid] = true
	m.queue = append(m.queue, uid)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// normalized rounds times as the API does, so that comparisons hold.
func normalized(s v1.PodStatus) v1.PodStatus {
	out := *s.DeepCopy()
	round := func(t *metav1.Time) {
		if !t.IsZero() {
			*t = t.Rfc3339Copy()
		}
	}
	if out.StartTime != nil {
		round(out.StartTime)
	}
	for i := range out.Conditions {
		round(&out.Conditions[i].LastTransitionTime)
		round(&out.Conditions[i].LastProbeTime)
	}
	for _, list := range [][]v1.ContainerStatus{out.InitContainerStatuses, out.ContainerStatuses, out.EphemeralContainerStatuses} {
		for i := range list {
			for _, st := range []*v1.ContainerState{&list[i].State, &list[i].LastTerminationState} {
				if st.Running != nil {
					round(&st.Running.StartedAt)
				}
				if st.Terminated != nil {
					round(&st.Terminated.StartedAt)
					round(&st.Terminated.FinishedAt)
				}
			}
		}
	}
	return out
}

// Run sends statuses until the context ends.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, m.cfg.Workers)
	for {
		uid, ok := m.next()
		if !ok {
			select {
			case <-ctx.Done():
				return nil
			case <-m.wake:
				continue
			}
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		wg.Go(func() {
			defer func() { <-slots }()
			retry := m.send(ctx, uid)
			m.mu.Lock()
			delete(m.sending, uid)
			m.mu.Unlock()
			if retry > 0 {
				time.AfterFunc(retry, func() { m.Poke(uid) })
			}
			select {
			case m.wake <- struct{}{}:
			default:
			}
		})
	}
}

// next takes the first queued pod that is not being sent.
func (m *Manager) next() (types.UID, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, uid := range m.queue {
		if m.sending[uid] {
			continue
		}
		m.queue = slices.Delete(m.queue, i, i+1)
		delete(m.queued, uid)
		m.sending[uid] = true
		return uid, true
	}
	return "", false
}

// send brings the server's copy up to date; the result is when to try again.
func (m *Manager) send(ctx context.Context, uid types.UID) time.Duration {
	m.mu.Lock()
	e := m.pods[uid]
	if e == nil {
		m.mu.Unlock()
		return 0
	}
	status, version, sent, server, failed := *e.status.DeepCopy(), e.version, e.sent, e.server, e.failures > 0
	m.mu.Unlock()
	pod := m.cfg.Pod(uid)
	if pod == nil {
		return 0
	}
	// What others wrote over the kubelet's part of the status is put right: the node
	// controller makes the pods of a node that was away unready.
	if version != sent || newer(pod, server) {
		server, err := m.current(ctx, pod, server, failed)
		if err == nil {
			server, err = m.patch(ctx, server, status)
		}
		if err != nil {
			if apierrors.IsNotFound(err) || ctx.Err() != nil {
				return 0
			}
			klog.FromContext(ctx).Info("Sending a pod's status failed, will try again", "pod", klog.KObj(pod), "err", err)
			m.mu.Lock()
			e.failures++
			wait := min(time.Duration(1<<min(e.failures, 6))*250*time.Millisecond, 10*time.Second)
			m.mu.Unlock()
			return wait
		}
		m.mu.Lock()
		e.sent, e.failures, e.server = version, 0, server
		m.mu.Unlock()
	}
	if pod.DeletionTimestamp != nil && !e.static && m.cfg.Deletable(uid) {
		// The pod may have ended while a status before its last was on the way: that
		// one is queued, and goes first.
		m.mu.Lock()
		last := e.version == version
		m.mu.Unlock()
		if !last {
			return 0
		}
		err := m.cfg.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
		})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
			klog.FromContext(ctx).Info("Deleting a terminated pod failed, will try again", "pod", klog.KObj(pod), "err", err)
			return time.Second
		}
	}
	return 0
}

// current is the newest copy of the server's pod. A patch is a difference: made
// from a copy older than the last patch it would leave out what changed back.
// After a failure it is not known what the server has, so it is asked.
func (m *Manager) current(ctx context.Context, pod, server *v1.Pod, failed bool) (*v1.Pod, error) {
	if failed {
		got, err := m.cfg.Client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if got.UID != pod.UID {
			return nil, apierrors.NewNotFound(v1.Resource("pods"), pod.Name)
		}
		return got, nil
	}
	if server == nil || server.UID != pod.UID || !newer(server, pod) {
		return pod, nil
	}
	return server, nil
}

// newer tells whether a is a version of b that came after it.
func newer(a, b *v1.Pod) bool {
	if a == nil || b == nil || a.UID != b.UID {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err == nil && order > 0
}

// patch sends the difference to what the server is known to have, and returns
// what it has then.
func (m *Manager) patch(ctx context.Context, pod *v1.Pod, status v1.PodStatus) (*v1.Pod, error) {
	before := v1.Pod{Status: pod.Status}
	merged := status
	// Conditions that others own stay as the server has them.
	for _, c := range pod.Status.Conditions {
		if !kubeletOwns(c.Type) {
			merged.Conditions = slices.DeleteFunc(merged.Conditions, func(o v1.PodCondition) bool { return o.Type == c.Type && c.Type != v1.DisruptionTarget })
			if condition(merged.Conditions, c.Type) == nil {
				merged.Conditions = append(merged.Conditions, c)
			}
		}
	}
	if pod.Status.Phase == v1.PodFailed || pod.Status.Phase == v1.PodSucceeded {
		merged.Phase = pod.Status.Phase
	}
	if pod.Status.NominatedNodeName != "" {
		merged.NominatedNodeName = pod.Status.NominatedNodeName
	}
	// These are the claim controller's and the scheduler's.
	merged.ResourceClaimStatuses, merged.ExtendedResourceClaimStatus = pod.Status.ResourceClaimStatuses, pod.Status.ExtendedResourceClaimStatus
	merged.NodeAllocatableResourceClaimStatuses = pod.Status.NodeAllocatableResourceClaimStatuses
	after := v1.Pod{Status: merged}
	oldData, err := json.Marshal(before)
	if err != nil {
		return nil, err
	}
	after.UID = pod.UID
	newData, err := json.Marshal(after)
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(oldData, newData, v1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("compute the status patch of pod %s: %w", containers.Full(pod), err)
	}
	if string(patch) == fmt.Sprintf(`{"metadata":{"uid":%q}}`, pod.UID) {
		return pod, nil
	}
	return m.cfg.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
}

func kubeletOwns(t v1.PodConditionType) bool {
	switch t {
	case v1.PodScheduled, v1.PodReady, v1.PodInitialized, v1.ContainersReady, v1.PodReadyToStartContainers, v1.PodResizePending, v1.PodResizeInProgress:
		return true
	}
	return false
}
