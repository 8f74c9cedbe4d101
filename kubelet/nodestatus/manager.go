package nodestatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// Config configures a Manager.
type Config struct {
	Client   kubernetes.Interface
	Recorder record.EventRecorder
	Name     string
	IPs      []string
	Hostname string
	Labels   map[string]string
	Taints   []v1.Taint
	// ProviderID and Register as in the kubelet's configuration. With External
	// a cloud controller fills in addresses.
	ProviderID            string
	Register              bool
	External              bool
	Port                  int32
	Capacity, Allocatable v1.ResourceList
	Machine               *Machine
	Version               string
	// State gives what changes: conditions, images, handlers, volumes.
	State func(ctx context.Context) State
	// OnNode is told of every version of the node's object that was seen.
	OnNode                   func(*v1.Node)
	UpdateEvery, ReportEvery time.Duration
	LeaseDuration            time.Duration
}

// State is the changing part of a node's status.
type State struct {
	// RuntimeErr, NetworkErr and other reasons why the node is not ready.
	NotReady                                  []string
	MemoryPressure, DiskPressure, PIDPressure bool
	Images                                    []v1.ContainerImage
	Handlers                                  []v1.NodeRuntimeHandler
	Features                                  *v1.NodeFeatures
	VolumesInUse                              []v1.UniqueVolumeName
	RuntimeVersion                            string
	// DeviceCapacity and DeviceAllocatable are what device plugins offer.
	DeviceCapacity, DeviceAllocatable v1.ResourceList
	ShuttingDown                      bool
}

// Manager keeps the node's object and Lease.
type Manager struct {
	cfg  Config
	poke chan struct{}

	mu         sync.Mutex // guards what follows
	node       *v1.Node
	lastReport time.Time
	lastReady  v1.ConditionStatus
	told       map[v1.NodeConditionType]v1.ConditionStatus // by events
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Client == nil || cfg.Name == "" || cfg.State == nil || cfg.Machine == nil {
		return nil, errors.New("nodestatus: Client, Name, State and Machine are required")
	}
	if cfg.UpdateEvery == 0 {
		cfg.UpdateEvery = 10 * time.Second
	}
	if cfg.ReportEvery == 0 {
		cfg.ReportEvery = 5 * time.Minute
	}
	if cfg.LeaseDuration == 0 {
		cfg.LeaseDuration = 40 * time.Second
	}
	return &Manager{cfg: cfg, poke: make(chan struct{}, 1), told: map[v1.NodeConditionType]v1.ConditionStatus{}}, nil
}

// Node returns the newest known object, nil before registration.
func (m *Manager) Node() *v1.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

// Observe takes a version of the object that a watch saw.
func (m *Manager) Observe(node *v1.Node) {
	m.mu.Lock()
	m.node = node
	m.mu.Unlock()
	if m.cfg.OnNode != nil {
		m.cfg.OnNode(node)
	}
}

// Poke makes the status be looked at now.
func (m *Manager) Poke() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// Run registers the node and keeps it up to date.
func (m *Manager) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { m.renewLease(ctx) })
	registered := !m.cfg.Register
	backoff := 100 * time.Millisecond
	for {
		wait := m.cfg.UpdateEvery
		if !registered {
			if err := m.register(ctx); err != nil {
				if ctx.Err() == nil {
					klog.FromContext(ctx).Info("Registering the node failed, will try again", "node", m.cfg.Name, "err", err)
				}
				wait, backoff = backoff, min(2*backoff, 7*time.Second)
			} else {
				registered = true
			}
		}
		if registered {
			if err := m.update(ctx); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).Info("Updating the node's status failed, will try again", "node", m.cfg.Name, "err", err)
				if apierrors.IsNotFound(err) && m.cfg.Register {
					registered = false
				}
				wait = min(wait, time.Second)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-m.poke:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (m *Manager) initial(ctx context.Context) *v1.Node {
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.cfg.Name, Labels: map[string]string{
		v1.LabelHostname: m.cfg.Hostname, v1.LabelOSStable: "linux", v1.LabelArchStable: m.cfg.Machine.Architecture,
		"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": m.cfg.Machine.Architecture,
	}, Annotations: map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"}}}
	for k, v := range m.cfg.Labels {
		node.Labels[k] = v
	}
	node.Spec.ProviderID = m.cfg.ProviderID
	node.Spec.Taints = append([]v1.Taint(nil), m.cfg.Taints...)
	if m.cfg.External {
		node.Spec.Taints = append(node.Spec.Taints, v1.Taint{Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: v1.TaintEffectNoSchedule})
		node.Annotations["alpha.kubernetes.io/provided-node-ip"] = m.cfg.IPs[0]
	}
	m.fill(node, m.cfg.State(ctx), metav1.Now())
	return node
}

// register creates the object, or brings the labels of one that exists up to
// date.
func (m *Manager) register(ctx context.Context) error {
	want := m.initial(ctx)
	nodes := m.cfg.Client.CoreV1().Nodes()
	created, err := nodes.Create(ctx, want, metav1.CreateOptions{})
	if err == nil {
		m.Observe(created)
		return nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	have, err := nodes.Get(ctx, m.cfg.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	next := have.DeepCopy()
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	for k, v := range want.Labels {
		next.Labels[k] = v
	}
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	for k, v := range want.Annotations {
		next.Annotations[k] = v
	}
	if next.Spec.ProviderID == "" {
		next.Spec.ProviderID = want.Spec.ProviderID
	}
	if !equality.Semantic.DeepEqual(have, next) {
		patch, err := twoWay(have, next)
		if err != nil {
			return err
		}
		if have, err = nodes.Patch(ctx, m.cfg.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	m.Observe(have)
	return nil
}

func twoWay(old, next *v1.Node) ([]byte, error) {
	a, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(next)
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(a, b, v1.Node{})
}

// update sends the status when it changed or is due.
func (m *Manager) update(ctx context.Context) error {
	have := m.Node()
	if have == nil {
		var err error
		if have, err = m.cfg.Client.CoreV1().Nodes().Get(ctx, m.cfg.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		m.Observe(have)
	}
	now := metav1.Now()
	next := have.DeepCopy()
	m.fill(next, m.cfg.State(ctx), now)
	m.mu.Lock()
	due := now.Sub(m.lastReport) >= m.cfg.ReportEvery
	m.mu.Unlock()
	if !due && !changed(&have.Status, &next.Status) {
		return nil
	}
	// Addresses are a list that merges by key; the list as a whole is ours.
	patch, err := twoWay(&v1.Node{Status: have.Status}, &v1.Node{Status: next.Status})
	if err != nil {
		return err
	}
	got, err := m.cfg.Client.CoreV1().Nodes().Patch(ctx, m.cfg.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		m.mu.Lock()
		m.node = nil
		m.mu.Unlock()
		return err
	}
	m.mu.Lock()
	// Spread the reports of many nodes that started together.
	m.lastReport = now.Add(time.Duration((rand.Float64() - 0.5) * float64(m.cfg.ReportEvery) / 2))
	m.mu.Unlock()
	m.Observe(got)
	return nil
}

// changed compares statuses without heartbeat times.
func changed(old, next *v1.NodeStatus) bool {
	a, b := old.DeepCopy(), next.DeepCopy()
	for _, s := range []*v1.NodeStatus{a, b} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return !equality.Semantic.DeepEqual(a, b)
}

// quantities are what the node has and what pods may have of it, given the capacity that
// was told before. What others add to that is allocatable as a whole, and goes when they
// take it away.
func (c *Config) quantities(told v1.ResourceList, s State) (capacity, allocatable v1.ResourceList) {
	capacity = v1.ResourceList{}
	maps.Copy(capacity, told)
	maps.Copy(capacity, c.Capacity)
	maps.Copy(capacity, s.DeviceCapacity)
	allocatable = maps.Clone(capacity)
	maps.Copy(allocatable, c.Allocatable)
	maps.Copy(allocatable, s.DeviceAllocatable)
	return capacity, allocatable
}

// fill writes everything the kubelet owns into the status.
func (m *Manager) fill(node *v1.Node, s State, now metav1.Time) {
	st := &node.Status
	st.Capacity, st.Allocatable = m.cfg.quantities(st.Capacity, s)
	if !m.cfg.External {
		st.Addresses = m.addresses()
	}
	st.DaemonEndpoints.KubeletEndpoint.Port = m.cfg.Port
	st.NodeInfo = v1.NodeSystemInfo{
		MachineID: m.cfg.Machine.MachineID, SystemUUID: m.cfg.Machine.SystemUUID, BootID: m.cfg.Machine.BootID,
		KernelVersion: m.cfg.Machine.Kernel, OSImage: m.cfg.Machine.OSImage, ContainerRuntimeVersion: s.RuntimeVersion,
		KubeletVersion: m.cfg.Version, OperatingSystem: "linux", Architecture: m.cfg.Machine.Architecture,
	}
	if m.cfg.Machine.Swap > 0 {
		st.NodeInfo.Swap = &v1.NodeSwapStatus{Capacity: ptr.To(m.cfg.Machine.Swap)}
	}
	st.Images, st.RuntimeHandlers, st.Features, st.VolumesInUse = s.Images, s.Handlers, s.Features, s.VolumesInUse
	st.DeclaredFeatures = declared()
	put := func(kind v1.NodeConditionType, on bool, reason, message string) {
		setCondition(st, v1.NodeCondition{Type: kind, Status: conditionStatus(on), Reason: reason, Message: message}, now)
	}
	pressure := func(kind v1.NodeConditionType, on bool, yes, no, yesText, noText string) {
		reason, text := no, noText
		if on {
			reason, text = yes, yesText
		}
		// The event is called as the reason is, of the node instead of the kubelet.
		m.pressureEvent(node, kind, conditionStatus(on), "Node"+strings.TrimPrefix(reason, "Kubelet"))
		put(kind, on, reason, text)
	}
	pressure(v1.NodeMemoryPressure, s.MemoryPressure, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "kubelet has insufficient memory available", "kubelet has sufficient memory available")
	pressure(v1.NodeDiskPressure, s.DiskPressure, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "kubelet has disk pressure", "kubelet has no disk pressure")
	pressure(v1.NodePIDPressure, s.PIDPressure, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "kubelet has insufficient PID available", "kubelet has sufficient PID available")
	if len(s.NotReady) == 0 {
		put(v1.NodeReady, true, "KubeletReady", "kubelet is posting ready status")
	} else {
		put(v1.NodeReady, false, "KubeletNotReady", joined(s.NotReady))
	}
	m.readyEvent(node, len(s.NotReady) == 0)
}

func joined(list []string) string {
	if len(list) == 1 {
		return list[0]
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// declared are the features, of those that schedulers and API servers ask nodes
// for, that this kubelet has; in order.
func declared() []string { return []string{"RestartAllContainersOnContainerExits"} }

func conditionStatus(on bool) v1.ConditionStatus {
	if on {
		return v1.ConditionTrue
	}
	return v1.ConditionFalse
}

func setCondition(st *v1.NodeStatus, c v1.NodeCondition, now metav1.Time) {
	c.LastHeartbeatTime, c.LastTransitionTime = now, now
	i := slices.IndexFunc(st.Conditions, func(o v1.NodeCondition) bool { return o.Type == c.Type })
	if i < 0 {
		st.Conditions = append(st.Conditions, c)
		return
	}
	if st.Conditions[i].Status == c.Status {
		c.LastTransitionTime = st.Conditions[i].LastTransitionTime
	}
	st.Conditions[i] = c
}

// pressureEvent tells of a condition that is new or changes.
func (m *Manager) pressureEvent(node *v1.Node, kind v1.NodeConditionType, status v1.ConditionStatus, name string) {
	i := slices.IndexFunc(node.Status.Conditions, func(c v1.NodeCondition) bool { return c.Type == kind })
	m.mu.Lock()
	told := m.told[kind]
	m.told[kind] = status
	m.mu.Unlock()
	if m.cfg.Recorder == nil || told == status || i >= 0 && node.Status.Conditions[i].Status == status {
		return
	}
	m.cfg.Recorder.Event(Ref(m.cfg.Name), v1.EventTypeNormal, name, fmt.Sprintf("Node %s status is now: %s", m.cfg.Name, name))
}

func (m *Manager) readyEvent(node *v1.Node, ready bool) {
	status := conditionStatus(ready)
	m.mu.Lock()
	before := m.lastReady
	m.lastReady = status
	m.mu.Unlock()
	if m.cfg.Recorder == nil || before == status || before == "" && !ready {
		return
	}
	name := "NodeNotReady"
	if ready {
		name = "NodeReady"
	}
	m.cfg.Recorder.Event(Ref(m.cfg.Name), v1.EventTypeNormal, name, fmt.Sprintf("Node %s status is now: %s", m.cfg.Name, name))
}

// Ref is what events about the node are about.
func Ref(name string) *v1.ObjectReference {
	return &v1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: name, UID: types.UID(name)}
}

func (m *Manager) addresses() []v1.NodeAddress {
	var out []v1.NodeAddress
	for _, ip := range m.cfg.IPs {
		if net.ParseIP(ip) != nil {
			out = append(out, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip})
		}
	}
	return append(out, v1.NodeAddress{Type: v1.NodeHostName, Address: m.cfg.Hostname})
}

// renewLease says that the node lives, four times per lease duration.
func (m *Manager) renewLease(ctx context.Context) {
	leases := m.cfg.Client.CoordinationV1().Leases(v1.NamespaceNodeLease)
	var lease *coordinationv1.Lease
	period := m.cfg.LeaseDuration / 4
	for {
		wait := period + time.Duration(rand.Int64N(int64(period)/25+1))
		next, err := m.leaseOnce(ctx, leases, lease)
		if err != nil {
			lease, wait = nil, min(wait, time.Second)
			if ctx.Err() == nil {
				klog.FromContext(ctx).V(2).Info("Renewing the node's lease failed, will try again", "err", err)
			}
		} else {
			lease = next
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

type leaseClient interface {
	Get(context.Context, string, metav1.GetOptions) (*coordinationv1.Lease, error)
	Create(context.Context, *coordinationv1.Lease, metav1.CreateOptions) (*coordinationv1.Lease, error)
	Update(context.Context, *coordinationv1.Lease, metav1.UpdateOptions) (*coordinationv1.Lease, error)
}

func (m *Manager) leaseOnce(ctx context.Context, leases leaseClient, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	if lease == nil {
		var err error
		lease, err = leases.Get(ctx, m.cfg.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: m.cfg.Name, Namespace: v1.NamespaceNodeLease}}
			m.stamp(lease)
			return leases.Create(ctx, lease, metav1.CreateOptions{})
		}
		if err != nil {
			return nil, err
		}
	}
	lease = lease.DeepCopy()
	m.stamp(lease)
	return leases.Update(ctx, lease, metav1.UpdateOptions{})
}

func (m *Manager) stamp(lease *coordinationv1.Lease) {
	lease.Spec.HolderIdentity = ptr.To(m.cfg.Name)
	lease.Spec.LeaseDurationSeconds = ptr.To(int32(m.cfg.LeaseDuration / time.Second))
	lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
	node := m.Node()
	if node != nil && node.UID != "" {
		owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
		if !reflect.DeepEqual(lease.OwnerReferences, owner) {
			lease.OwnerReferences = owner
		}
	}
}
