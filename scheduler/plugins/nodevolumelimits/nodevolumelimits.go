// Package nodevolumelimits bounds the volumes of each CSI driver on a node.
package nodevolumelimits

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/tools/cache"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "NodeVolumeLimits"

// ErrReasonExceeded is the text for a node that is full.
const ErrReasonExceeded = "node(s) exceed max volume count"

// Plugin counts volumes.
type Plugin struct{ handle framework.Handle }

// New makes the plugin.
func New(_ any, h framework.Handle) (framework.Plugin, error) {
	inf := h.Informers().Storage().V1().VolumeAttachments().Informer()
	if _, ok := inf.GetIndexer().GetIndexers()[byNode]; !ok {
		if err := inf.AddIndexers(cache.Indexers{byNode: func(obj any) ([]string, error) {
			if a, ok := obj.(*storagev1.VolumeAttachment); ok {
				return []string{a.Spec.NodeName}, nil
			}
			return nil, nil
		}}); err != nil {
			return nil, fmt.Errorf("indexing volume attachments by node: %w", err)
		}
	}
	return &Plugin{handle: h}, nil
}

// byNode is the index of volume attachments by node name.
const byNode = "schedulerVolumeAttachmentsByNode"

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// EventsToRegister: limits grew, or users went.
func (*Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.CSINode, Action: framework.Add | framework.Update}},
		{Event: framework.ClusterEvent{Resource: framework.AssignedPod, Action: framework.Delete}},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolumeClaim, Action: framework.Add | framework.Update}},
		{Event: framework.ClusterEvent{Resource: framework.VolumeAttachment, Action: framework.Delete}},
	}
}

// PreFilter: only pods with claims or inline CSI volumes count.
func (p *Plugin) PreFilter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	for i := range pod.Pod.Spec.Volumes {
		if v := &pod.Pod.Spec.Volumes[i]; v.CSI != nil || framework.ClaimName(pod.Pod, v) != "" {
			return nil, nil
		}
	}
	return nil, framework.NewStatus(framework.Skip)
}

// Filter counts the distinct volumes per driver with the pod's added.
func (p *Plugin) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	csi, err := p.handle.Informers().Storage().V1().CSINodes().Lister().Get(node.Name())
	if err != nil {
		// Without a CSINode there are no limits.
		return nil
	}
	limits := map[string]int{}
	for i := range csi.Spec.Drivers {
		if a := csi.Spec.Drivers[i].Allocatable; a != nil && a.Count != nil {
			limits[csi.Spec.Drivers[i].Name] = int(*a.Count)
		}
	}
	if len(limits) == 0 {
		return nil
	}
	adds := map[volumeID]bool{}
	p.collect(pod.Pod, adds)
	if len(adds) == 0 {
		return nil
	}
	used := map[volumeID]bool{}
	for _, o := range node.Pods {
		p.collect(o.Pod, used)
	}
	p.attached(node.Name(), used)
	counts, grows := map[string]int{}, map[string]bool{}
	for v := range used {
		counts[v.driver]++
	}
	for v := range adds {
		if !used[v] {
			counts[v.driver]++
			grows[v.driver] = true
		}
	}
	for driver := range grows {
		if limit, ok := limits[driver]; ok && counts[driver] > limit {
			return framework.NewStatus(framework.Unschedulable, ErrReasonExceeded)
		}
	}
	return nil
}

type volumeID struct{ driver, handle string }

// collect adds the volumes of the pod's claims. What cannot be resolved yet is
// counted by the claim's name when its class names the driver.
func (p *Plugin) collect(pod *v1.Pod, into map[volumeID]bool) {
	inf := p.handle.Informers()
	for i := range pod.Spec.Volumes {
		name := framework.ClaimName(pod, &pod.Spec.Volumes[i])
		if name == "" {
			continue
		}
		c, err := inf.Core().V1().PersistentVolumeClaims().Lister().PersistentVolumeClaims(pod.Namespace).Get(name)
		if err != nil {
			continue
		}
		if c.Spec.VolumeName != "" {
			if pv, err := inf.Core().V1().PersistentVolumes().Lister().Get(c.Spec.VolumeName); err == nil {
				if pv.Spec.CSI != nil {
					into[volumeID{pv.Spec.CSI.Driver, pv.Spec.CSI.VolumeHandle}] = true
				}
				continue
			}
		}
		if c.Spec.StorageClassName == nil {
			continue
		}
		if class, err := inf.Storage().V1().StorageClasses().Lister().Get(*c.Spec.StorageClassName); err == nil {
			into[volumeID{class.Provisioner, pod.Namespace + "/" + name}] = true
		}
	}
}

// attached adds the volumes that are attached to the node still or already.
func (p *Plugin) attached(node string, into map[volumeID]bool) {
	inf := p.handle.Informers()
	all, err := inf.Storage().V1().VolumeAttachments().Informer().GetIndexer().ByIndex(byNode, node)
	if err != nil {
		return
	}
	for _, obj := range all {
		a, ok := obj.(*storagev1.VolumeAttachment)
		if !ok || a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		if pv, err := inf.Core().V1().PersistentVolumes().Lister().Get(*a.Spec.Source.PersistentVolumeName); err == nil && pv.Spec.CSI != nil {
			into[volumeID{a.Spec.Attacher, pv.Spec.CSI.VolumeHandle}] = true
		}
	}
}
