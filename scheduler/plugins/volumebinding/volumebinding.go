// Package volumebinding checks that a pod's claims can be used on a node, picks
// volumes for unbound claims, or has them provisioned for the node.
package volumebinding

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/component-helpers/storage/volume"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/ptr"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "VolumeBinding"

// The texts of refusals.
const (
	errNodeConflict  = "node(s) didn't match PersistentVolume's node affinity"
	errBindConflict  = "node(s) didn't find available persistent volumes to bind"
	errNoSpace       = "node(s) did not have enough free storage"
	errVolumeMissing = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
	errImmediate     = "pod has unbound immediate PersistentVolumeClaims"
)

// Plugin binds volumes.
type Plugin struct {
	handle  framework.Handle
	timeout time.Duration

	mu sync.Mutex
	// taken are the volumes given to claims whose binding is not seen yet, by volume name.
	taken map[string]*v1.PersistentVolumeClaim
	// changed is closed and replaced when a claim changes.
	changed chan struct{}
}

// New makes the plugin from VolumeBindingArgs.
func New(args any, h framework.Handle) (framework.Plugin, error) {
	p := &Plugin{handle: h, timeout: 600 * time.Second, taken: map[string]*v1.PersistentVolumeClaim{}, changed: make(chan struct{})}
	if a, ok := args.(*configv1.VolumeBindingArgs); ok && a != nil {
		if n := ptr.Deref(a.BindTimeoutSeconds, 600); n < 0 {
			return nil, fmt.Errorf("bindTimeoutSeconds: Invalid value: %d: invalid BindTimeoutSeconds, should not be a negative value", n)
		} else if n > 0 {
			p.timeout = time.Duration(n) * time.Second
		}
	}
	_, err := h.Informers().Core().V1().PersistentVolumeClaims().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(any, any) { p.notify() },
		DeleteFunc: func(any) { p.notify() },
	})
	return p, err
}

func (p *Plugin) notify() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// EventsToRegister: volumes, claims, classes, capacities or nodes changed.
func (*Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.StorageClass, Action: framework.Add | framework.Update}},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolumeClaim, Action: framework.Add | framework.Update}, Hint: afterClaim},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolume, Action: framework.Add | framework.Update}},
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add | framework.UpdateNodeLabel | framework.UpdateNodeTaint}},
		{Event: framework.ClusterEvent{Resource: framework.CSINode, Action: framework.Add | framework.Update}},
		{Event: framework.ClusterEvent{Resource: framework.CSIDriver, Action: framework.Update | framework.Delete}},
		{Event: framework.ClusterEvent{Resource: framework.CSIStorageCapacity, Action: framework.Add | framework.Update}},
	}
}

// afterClaim: only the pod's own claims matter.
func afterClaim(pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	_, c := framework.Cast[*v1.PersistentVolumeClaim](oldObj, newObj)
	if c == nil || c.Namespace != pod.Namespace {
		return framework.QueueSkip, nil
	}
	for i := range pod.Spec.Volumes {
		if framework.ClaimName(pod, &pod.Spec.Volumes[i]) == c.Name {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}

var stateKey = framework.NewStateKey[*claims]("PreFilter" + Name)

// claims are the pod's, by what is to be done with them.
type claims struct {
	bound   []*v1.PersistentVolumeClaim
	delayed []*v1.PersistentVolumeClaim

	mu    sync.Mutex
	plans map[string]plan
}

// plan is what binding the pod on a node takes.
type plan struct {
	bind      map[string]*v1.PersistentVolumeClaim // by volume name
	provision []*v1.PersistentVolumeClaim
}

// IsBound is true for a claim that has its volume.
func isBound(c *v1.PersistentVolumeClaim) bool {
	_, complete := c.Annotations[volume.AnnBindCompleted]
	return c.Spec.VolumeName != "" && complete
}

func (p *Plugin) informers() informers.SharedInformerFactory { return p.handle.Informers() }

func (p *Plugin) claim(pod *v1.Pod, v *v1.Volume) (*v1.PersistentVolumeClaim, error) {
	name := framework.ClaimName(pod, v)
	c, err := p.informers().Core().V1().PersistentVolumeClaims().Lister().PersistentVolumeClaims(pod.Namespace).Get(name)
	switch {
	case apierrors.IsNotFound(err) && v.Ephemeral != nil:
		return nil, fmt.Errorf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("persistentvolumeclaim %q not found", name)
	case err != nil:
		return nil, err
	case c.Status.Phase == v1.ClaimLost:
		return nil, fmt.Errorf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, c.Spec.VolumeName)
	case c.DeletionTimestamp != nil:
		return nil, fmt.Errorf("persistentvolumeclaim %q is being deleted", name)
	case v.Ephemeral != nil:
		return c, ephemeral.VolumeIsForPod(pod, c)
	}
	return c, nil
}

// PreFilter sorts the claims; without any the plugin has nothing to say.
func (p *Plugin) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	s := &claims{plans: map[string]plan{}}
	immediate := false
	for i := range pod.Pod.Spec.Volumes {
		v := &pod.Pod.Spec.Volumes[i]
		if framework.ClaimName(pod.Pod, v) == "" {
			continue
		}
		c, err := p.claim(pod.Pod, v)
		if err != nil {
			return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
		}
		if isBound(c) {
			s.bound = append(s.bound, c)
			continue
		}
		delayed, err := volume.IsDelayBindingMode(c, p.informers().Storage().V1().StorageClasses().Lister())
		if err != nil {
			return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
		}
		if delayed && c.Spec.VolumeName == "" {
			s.delayed = append(s.delayed, c)
		} else {
			immediate = true
		}
	}
	if immediate {
		return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, errImmediate)
	}
	if len(s.bound)+len(s.delayed) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	framework.Write(state, stateKey, s)
	return nil, nil
}

// Filter checks one node, and keeps the plan for it.
func (p *Plugin) Filter(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	s, ok := framework.Read(state, stateKey)
	if !ok {
		return nil
	}
	for _, c := range s.bound {
		pv, err := p.informers().Core().V1().PersistentVolumes().Lister().Get(c.Spec.VolumeName)
		if apierrors.IsNotFound(err) {
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, errVolumeMissing)
		}
		if err != nil {
			return framework.AsStatus(err)
		}
		if volume.CheckNodeAffinity(pv, node.Node.Labels) != nil {
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, errNodeConflict)
		}
	}
	if len(s.delayed) == 0 {
		return nil
	}
	pl, why, err := p.plan(s.delayed, node.Node)
	if err != nil {
		return framework.AsStatus(err)
	}
	if why != "" {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, why)
	}
	s.mu.Lock()
	s.plans[node.Name()] = pl
	s.mu.Unlock()
	return nil
}

// plan matches the claims with free volumes, or finds that they can be provisioned.
func (p *Plugin) plan(want []*v1.PersistentVolumeClaim, node *v1.Node) (plan, string, error) {
	out := plan{bind: map[string]*v1.PersistentVolumeClaim{}}
	volumes, err := p.informers().Core().V1().PersistentVolumes().Lister().List(labels.Everything())
	if err != nil {
		return out, "", err
	}
	p.mu.Lock()
	taken := maps.Clone(p.taken)
	p.mu.Unlock()
	exclude := map[string]*v1.PersistentVolume{}
	for _, pv := range volumes {
		if _, ok := taken[pv.Name]; ok {
			exclude[pv.Name] = pv
		}
	}
	for _, c := range want {
		if chosen, ok := c.Annotations[volume.AnnSelectedNode]; ok {
			// Provisioning for a node has begun, so it is that node or none.
			if chosen != node.Name {
				return out, errBindConflict, nil
			}
			out.provision = append(out.provision, c)
			continue
		}
		class := volume.GetPersistentVolumeClaimClass(c)
		var offered []*v1.PersistentVolume
		for _, pv := range volumes {
			if volume.GetPersistentVolumeClass(pv) == class {
				offered = append(offered, pv)
			}
		}
		pv, err := volume.FindMatchingVolume(c, offered, node, exclude, true, true)
		if err != nil {
			return out, "", err
		}
		if pv != nil {
			exclude[pv.Name] = pv
			out.bind[pv.Name] = c
			continue
		}
		why, err := p.provisionable(c, class, node)
		if why != "" || err != nil {
			return out, why, err
		}
		out.provision = append(out.provision, c)
	}
	return out, "", nil
}

// provisionable says why the claim cannot be provisioned for the node, empty when it can.
func (p *Plugin) provisionable(c *v1.PersistentVolumeClaim, name string, node *v1.Node) (string, error) {
	if name == "" {
		return "", fmt.Errorf("no class for claim %q", c.Namespace+"/"+c.Name)
	}
	class, err := p.informers().Storage().V1().StorageClasses().Lister().Get(name)
	if err != nil {
		return "", fmt.Errorf("failed to find storage class %q: %w", name, err)
	}
	if class.Provisioner == "" || class.Provisioner == volume.NotSupportedProvisioner {
		return errBindConflict, nil
	}
	if !allowed(class.AllowedTopologies, node) {
		return errBindConflict, nil
	}
	return p.capacity(c, class, node)
}

func allowed(terms []v1.TopologySelectorTerm, node *v1.Node) bool {
	if len(terms) == 0 {
		return true
	}
	for _, t := range terms {
		sel := v1.NodeSelectorTerm{}
		for _, e := range t.MatchLabelExpressions {
			sel.MatchExpressions = append(sel.MatchExpressions, v1.NodeSelectorRequirement{Key: e.Key, Operator: v1.NodeSelectorOpIn, Values: e.Values})
		}
		if len(sel.MatchExpressions) == 0 {
			return true
		}
		if ok, err := corev1helpers.MatchNodeSelectorTerms(node, &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{sel}}); ok && err == nil {
			return true
		}
	}
	return false
}

// capacity asks the drivers that publish it whether there is room.
func (p *Plugin) capacity(c *v1.PersistentVolumeClaim, class *storagev1.StorageClass, node *v1.Node) (string, error) {
	driver, err := p.informers().Storage().V1().CSIDrivers().Lister().Get(class.Provisioner)
	if apierrors.IsNotFound(err) || (err == nil && !ptr.Deref(driver.Spec.StorageCapacity, false)) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	all, err := p.informers().Storage().V1().CSIStorageCapacities().Lister().List(labels.Everything())
	if err != nil {
		return "", err
	}
	size := c.Spec.Resources.Requests[v1.ResourceStorage]
	for _, o := range all {
		limit := o.Capacity
		if o.MaximumVolumeSize != nil {
			limit = o.MaximumVolumeSize
		}
		if o.StorageClassName != class.Name || limit == nil || limit.Cmp(size) < 0 || o.NodeTopology == nil {
			continue
		}
		sel, err := selector(o.NodeTopology)
		if err == nil && sel.Matches(labels.Set(node.Labels)) {
			return "", nil
		}
	}
	return errNoSpace, nil
}
