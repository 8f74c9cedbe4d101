package claims

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/resourceclaim"
	"k8s.io/klog/v2"
	drav1 "k8s.io/kubelet/pkg/apis/dra/v1"
	"k8s.io/utils/ptr"
)

// callTime bounds a driver's work.
const callTime = 45 * time.Second

// ofResources is the own name of the claim that the scheduler made for a pod's
// extended resources. No entry of a pod can have it.
const ofResources = ""

// names are the ResourceClaims of a pod by the pod's own names for them.
func names(pod *v1.Pod) (map[string]types.NamespacedName, error) {
	out := map[string]types.NamespacedName{}
	for i := range pod.Spec.ResourceClaims {
		name, _, err := resourceclaim.Name(pod, &pod.Spec.ResourceClaims[i])
		if err != nil {
			return nil, fmt.Errorf("prepare resource claim: %w", err)
		}
		if name != nil {
			out[pod.Spec.ResourceClaims[i].Name] = types.NamespacedName{Namespace: pod.Namespace, Name: *name}
		}
	}
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		out[ofResources] = types.NamespacedName{Namespace: pod.Namespace, Name: s.ResourceClaimName}
	}
	return out, nil
}

// uses are the claims that a container names, and those that give its extended
// resources.
func uses(pod *v1.Pod, c *v1.Container) []v1.ResourceClaim {
	out := slices.Clone(c.Resources.Claims)
	if s := pod.Status.ExtendedResourceClaimStatus; s != nil {
		for _, m := range s.RequestMappings {
			if m.ContainerName == c.Name {
				out = append(out, v1.ResourceClaim{Name: ofResources, Request: m.RequestName})
			}
		}
	}
	return out
}

// Prepare has drivers prepare all claims of the pod. It does nothing for those
// that are prepared.
func (m *Manager) Prepare(ctx context.Context, pod *v1.Pod) error {
	if len(pod.Spec.ResourceClaims) == 0 && pod.Status.ExtendedResourceClaimStatus == nil {
		return nil
	}
	m.calls.Lock()
	defer m.calls.Unlock()
	all, err := names(pod)
	if err != nil {
		return err
	}
	byDriver := map[string][]*claim{}
	for _, own := range slices.Sorted(maps.Keys(all)) {
		c, err := m.hold(ctx, pod, all[own])
		if err != nil {
			return err
		}
		if !c.prepared {
			for driver := range c.devices {
				byDriver[driver] = append(byDriver[driver], c)
			}
		}
	}
	if len(byDriver) == 0 {
		return nil
	}
	for _, driver := range slices.Sorted(maps.Keys(byDriver)) {
		if err := m.prepare(ctx, driver, byDriver[driver]); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range all {
		m.claims[name].prepared = true
	}
	return m.save()
}

// hold finds the claim or begins to keep it, for the pod.
func (m *Manager) hold(ctx context.Context, pod *v1.Pod, name types.NamespacedName) (*claim, error) {
	m.mu.Lock()
	c := m.claims[name]
	ready := c != nil && c.prepared && c.pods[pod.UID]
	m.mu.Unlock()
	if ready {
		return c, nil
	}
	o, err := m.cfg.Client.ResourceV1().ResourceClaims(name.Namespace).Get(ctx, name.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("fetch ResourceClaim %s: %w", name, err)
	}
	if err := usable(pod, o); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case c == nil:
		c = &claim{uid: o.UID, name: name, pods: map[types.UID]bool{}, devices: map[string][]device{}}
		for _, r := range o.Status.Allocation.Devices.Results {
			c.devices[r.Driver] = nil
		}
		m.claims[name] = c
	case c.uid != o.UID:
		return nil, fmt.Errorf("old ResourceClaim with same name %s and different UID %s still exists (previous pod force-deleted?!)", name, c.uid)
	}
	c.pods[pod.UID] = true
	return c, m.save()
}

// usable checks that the claim is allocated, and for this pod.
func usable(pod *v1.Pod, o *resourceapi.ResourceClaim) error {
	for name, owned := range resourceclaim.PodClaims(pod) {
		if name == o.Name && owned {
			if err := resourceclaim.IsForPod(pod, o, false); err != nil {
				return err
			}
		}
	}
	if o.Status.Allocation == nil {
		return fmt.Errorf("ResourceClaim %s/%s is not allocated yet", o.Namespace, o.Name)
	}
	if !resourceclaim.IsReservedForPod(pod, o, false) {
		return fmt.Errorf("pod %s(%s) is not allowed to use ResourceClaim %s(%s)", pod.Name, pod.UID, o.Name, o.UID)
	}
	return nil
}

func asked(claims []*claim) []*drav1.Claim {
	var out []*drav1.Claim
	for _, c := range claims {
		out = append(out, &drav1.Claim{Namespace: c.name.Namespace, Name: c.name.Name, Uid: string(c.uid)})
	}
	return out
}

// prepare calls one driver for claims.
func (m *Manager) prepare(ctx context.Context, name string, claims []*claim) error {
	d, err := m.driver(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := d.api.NodePrepareResources(ctx, &drav1.NodePrepareResourcesRequest{Claims: asked(claims)})
	if err != nil {
		return fmt.Errorf("NodePrepareResources of driver %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range claims {
		result, ok := answer.Claims[string(c.uid)]
		if !ok {
			return fmt.Errorf("NodePrepareResources of driver %s skipped ResourceClaim %s", name, c.name)
		}
		if result.GetError() != "" {
			return fmt.Errorf("NodePrepareResources of driver %s failed for ResourceClaim %s: %s", name, c.name, result.GetError())
		}
		c.devices[name] = nil
		for _, dev := range result.GetDevices() {
			out := device{Pool: dev.PoolName, Name: dev.DeviceName, Requests: dev.RequestNames, CDI: dev.CdiDeviceIds}
			if dev.ShareId != nil {
				out.ShareID = ptr.To(types.UID(*dev.ShareId))
			}
			c.devices[name] = append(c.devices[name], out)
		}
	}
	return nil
}

// Unprepare lets go of what was prepared for a pod of which nothing runs. It
// may be called again after a failure.
func (m *Manager) Unprepare(ctx context.Context, uid types.UID) error {
	m.calls.Lock()
	defer m.calls.Unlock()
	byDriver := map[string][]*claim{}
	var last []*claim
	shared := false
	m.mu.Lock()
	for _, c := range m.claims {
		if !c.pods[uid] {
			continue
		}
		if len(c.pods) > 1 {
			delete(c.pods, uid)
			shared = true
			continue
		}
		// A pod that comes now has it prepared again.
		c.prepared = false
		last = append(last, c)
		for driver := range c.devices {
			byDriver[driver] = append(byDriver[driver], c)
		}
	}
	var err error
	if shared {
		err = m.save()
	}
	m.mu.Unlock()
	if len(last) == 0 {
		return err
	}
	for _, driver := range slices.Sorted(maps.Keys(byDriver)) {
		if err := m.unprepare(ctx, driver, byDriver[driver]); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range last {
		delete(m.claims, c.name)
	}
	return errors.Join(err, m.save())
}

func (m *Manager) unprepare(ctx context.Context, name string, claims []*claim) error {
	d, err := m.driver(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := d.api.NodeUnprepareResources(ctx, &drav1.NodeUnprepareResourcesRequest{Claims: asked(claims)})
	if err != nil {
		return fmt.Errorf("NodeUnprepareResources of driver %s: %w", name, err)
	}
	for _, c := range claims {
		result, ok := answer.Claims[string(c.uid)]
		if !ok {
			return fmt.Errorf("NodeUnprepareResources of driver %s skipped ResourceClaim %s", name, c.name)
		}
		if result.GetError() != "" {
			return fmt.Errorf("NodeUnprepareResources of driver %s failed for ResourceClaim %s: %s", name, c.name, result.GetError())
		}
	}
	return nil
}

// each calls f for the devices that a container's reference to a claim means;
// the caller holds the lock.
func (m *Manager) each(pod *v1.Pod, ref v1.ResourceClaim, f func(driver string, c *claim, dev device)) {
	all, err := names(pod)
	if err != nil {
		return
	}
	c := m.claims[all[ref.Name]]
	if c == nil {
		return
	}
	for _, driver := range slices.Sorted(maps.Keys(c.devices)) {
		for _, dev := range c.devices[driver] {
			if ref.Request == "" || len(dev.Requests) == 0 || slices.ContainsFunc(dev.Requests, func(r string) bool {
				// The main request stands for the alternative that was chosen.
				return r == ref.Request || strings.HasPrefix(r, ref.Request+"/")
			}) {
				f(driver, c, dev)
			}
		}
	}
}

// CDI are the names of the CDI devices that a container gets for its claims.
func (m *Manager) CDI(pod *v1.Pod, c *v1.Container) ([]string, error) {
	all, err := names(pod)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, ref := range uses(pod, c) {
		name, needed := all[ref.Name]
		if !needed {
			continue
		}
		if known := m.claims[name]; known == nil || !known.pods[pod.UID] {
			return nil, fmt.Errorf("unable to get resource for namespace: %s, claim: %s", name.Namespace, name.Name)
		}
		m.each(pod, ref, func(_ string, _ *claim, dev device) {
			for _, id := range dev.CDI {
				if !slices.Contains(out, id) {
					out = append(out, id)
				}
			}
		})
	}
	return out, nil
}

// Prepared is one device of a container's claim.
type Prepared struct {
	Claim                types.NamespacedName
	Driver, Pool, Device string
	ShareID              *types.UID
	CDI                  []string
}

// Devices are those of a container's claims.
func (m *Manager) Devices(pod *v1.Pod, c *v1.Container) []Prepared {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Prepared
	for _, ref := range uses(pod, c) {
		m.each(pod, ref, func(driver string, of *claim, dev device) {
			out = append(out, Prepared{Claim: of.name, Driver: driver, Pool: dev.Pool, Device: dev.Name, ShareID: dev.ShareID, CDI: dev.CDI})
		})
	}
	return out
}

// Abandon notes pods that ended while no kubelet ran, and unprepares their
// claims.
func (m *Manager) Abandon(ctx context.Context, known func(types.UID) bool) {
	for _, uid := range m.Gone(known) {
		if err := m.Unprepare(ctx, uid); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Info("Unpreparing the claims of a pod that is gone failed, will try again", "podUID", uid, "err", err)
		}
	}
}
