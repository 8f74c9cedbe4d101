// Package volumerestrictions keeps pods apart that may not share a disk: the
// users of a ReadWriteOncePod claim, and of disks that one node may hold once.
package volumerestrictions

import (
	"context"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "VolumeRestrictions"

// The texts of refusals.
const (
	ErrReasonDiskConflict = "node(s) had no available disk"
	ErrReasonOncePod      = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
)

// Plugin compares volumes.
type Plugin struct{ handle framework.Handle }

// New makes the plugin.
func New(_ any, h framework.Handle) (framework.Plugin, error) { return &Plugin{handle: h}, nil }

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// EventsToRegister: another user is gone, or a node or the claim came.
func (*Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.AssignedPod, Action: framework.Delete}},
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add}},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolumeClaim, Action: framework.Add | framework.Update}},
	}
}

var stateKey = framework.NewStateKey[*state]("PreFilter" + Name)

// state counts the other users of the pod's ReadWriteOncePod claims.
type state struct {
	once  map[string]bool
	users int
}

// CloneState copies it for dry runs.
func (s *state) CloneState() any { c := *s; return &c }

func (s *state) uses(p *v1.Pod) (n int) {
	for i := range p.Spec.Volumes {
		if s.once[p.Namespace+"/"+framework.ClaimName(p, &p.Spec.Volumes[i])] {
			n++
		}
	}
	return n
}

// PreFilter finds the pod's claims that only one pod may use.
func (p *Plugin) PreFilter(_ context.Context, cs *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	s := &state{once: map[string]bool{}}
	disks := false
	for i := range pod.Pod.Spec.Volumes {
		v := &pod.Pod.Spec.Volumes[i]
		disks = disks || restricted(v)
		// The claim of an ephemeral volume may not be there yet, and is its pod's alone.
		if v.PersistentVolumeClaim == nil {
			continue
		}
		name := v.PersistentVolumeClaim.ClaimName
		c, err := p.handle.Informers().Core().V1().PersistentVolumeClaims().Lister().PersistentVolumeClaims(pod.Pod.Namespace).Get(name)
		if apierrors.IsNotFound(err) {
			return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
		}
		if err != nil {
			return nil, framework.AsStatus(err)
		}
		if slices.Contains(c.Spec.AccessModes, v1.ReadWriteOncePod) {
			key := pod.Pod.Namespace + "/" + name
			s.once[key] = true
			if p.handle.Snapshot().PVCUsed(key) {
				s.users++
			}
		}
	}
	if !disks && len(s.once) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	framework.Write(cs, stateKey, s)
	return nil, nil
}

// AddPod follows a dry run.
func (p *Plugin) AddPod(_ context.Context, cs *framework.CycleState, _, added *framework.PodInfo, _ *framework.NodeInfo) *framework.Status {
	if s, ok := framework.Read(cs, stateKey); ok {
		s.users += s.uses(added.Pod)
	}
	return nil
}

// RemovePod follows a dry run.
func (p *Plugin) RemovePod(_ context.Context, cs *framework.CycleState, _, removed *framework.PodInfo, _ *framework.NodeInfo) *framework.Status {
	if s, ok := framework.Read(cs, stateKey); ok {
		s.users -= s.uses(removed.Pod)
	}
	return nil
}

// Filter refuses a node with a conflicting disk, and all nodes while the claim is used.
func (p *Plugin) Filter(_ context.Context, cs *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	s, ok := framework.Read(cs, stateKey)
	if !ok {
		return nil
	}
	for i := range pod.Pod.Spec.Volumes {
		v := &pod.Pod.Spec.Volumes[i]
		if !restricted(v) {
			continue
		}
		for _, o := range node.Pods {
			for j := range o.Pod.Spec.Volumes {
				if conflict(v, &o.Pod.Spec.Volumes[j]) {
					return framework.NewStatus(framework.Unschedulable, ErrReasonDiskConflict)
				}
			}
		}
	}
	if s.users > 0 {
		return framework.NewStatus(framework.Unschedulable, ErrReasonOncePod)
	}
	return nil
}

func restricted(v *v1.Volume) bool {
	return v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.RBD != nil || v.ISCSI != nil
}

// conflict is true when both volumes are the same disk, and not both only read it.
func conflict(a, b *v1.Volume) bool {
	switch {
	case a.GCEPersistentDisk != nil && b.GCEPersistentDisk != nil:
		x, y := a.GCEPersistentDisk, b.GCEPersistentDisk
		return x.PDName == y.PDName && !(x.ReadOnly && y.ReadOnly)
	case a.AWSElasticBlockStore != nil && b.AWSElasticBlockStore != nil:
		return a.AWSElasticBlockStore.VolumeID == b.AWSElasticBlockStore.VolumeID
	case a.ISCSI != nil && b.ISCSI != nil:
		return a.ISCSI.IQN == b.ISCSI.IQN && !(a.ISCSI.ReadOnly && b.ISCSI.ReadOnly)
	case a.RBD != nil && b.RBD != nil:
		x, y := a.RBD, b.RBD
		shared := slices.ContainsFunc(x.CephMonitors, func(m string) bool { return slices.Contains(y.CephMonitors, m) })
		return shared && x.RBDPool == y.RBDPool && x.RBDImage == y.RBDImage && !(x.ReadOnly && y.ReadOnly)
	}
	return false
}
