// Package volumezone keeps pods in the zones of their volumes' labels.
package volumezone

import (
	"context"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/storage/volume"

	"skiff/scheduler/framework"
)

// Name of the plugin.
const Name = "VolumeZone"

// ErrReasonConflict is the text for a node in another zone.
const ErrReasonConflict = "node(s) had no available volume zone"

// zonesSeparator divides the zones of a label's value.
const zonesSeparator = "__"

var stateKey = framework.NewStateKey[[]topology]("PreFilter" + Name)

type topology struct {
	key    string
	values sets.Set[string]
}

// Plugin compares zone labels.
type Plugin struct{ handle framework.Handle }

// New makes the plugin.
func New(_ any, h framework.Handle) (framework.Plugin, error) { return &Plugin{handle: h}, nil }

// Name is the plugin's name.
func (*Plugin) Name() string { return Name }

// EventsToRegister: volumes, claims, classes or nodes changed.
func (*Plugin) EventsToRegister() []framework.EventHint {
	return []framework.EventHint{
		{Event: framework.ClusterEvent{Resource: framework.StorageClass, Action: framework.Add}},
		{Event: framework.ClusterEvent{Resource: framework.Node, Action: framework.Add | framework.UpdateNodeLabel}},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolumeClaim, Action: framework.Add | framework.Update}},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolume, Action: framework.Add | framework.Update}},
	}
}

// PreFilter collects the labels of the pod's volumes.
func (p *Plugin) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	inf := p.handle.Informers()
	var out []topology
	for i := range pod.Pod.Spec.Volumes {
		src := pod.Pod.Spec.Volumes[i].PersistentVolumeClaim
		if src == nil {
			continue
		}
		refuse := func(err error) (*framework.PreFilterResult, *framework.Status) {
			return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
		}
		c, err := inf.Core().V1().PersistentVolumeClaims().Lister().PersistentVolumeClaims(pod.Pod.Namespace).Get(src.ClaimName)
		if err != nil {
			return refuse(err)
		}
		if c.Spec.VolumeName == "" {
			name := volume.GetPersistentVolumeClaimClass(c)
			if name == "" {
				return refuse(fmt.Errorf("PersistentVolumeClaim had no pv name and storageClass name"))
			}
			class, err := inf.Storage().V1().StorageClasses().Lister().Get(name)
			if err != nil {
				return refuse(err)
			}
			if class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer {
				continue
			}
			return refuse(fmt.Errorf("PersistentVolume had no name"))
		}
		pv, err := inf.Core().V1().PersistentVolumes().Lister().Get(c.Spec.VolumeName)
		if err != nil {
			return refuse(err)
		}
		for _, key := range []string{v1.LabelFailureDomainBetaZone, v1.LabelFailureDomainBetaRegion, v1.LabelTopologyZone, v1.LabelTopologyRegion} {
			if v, ok := pv.Labels[key]; ok {
				out = append(out, topology{key, sets.New(strings.Split(v, zonesSeparator)...)})
			}
		}
	}
	if len(out) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	framework.Write(state, stateKey, out)
	return nil, nil
}

// Filter compares with the node's labels; a node without zones takes all.
func (p *Plugin) Filter(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	want, _ := framework.Read(state, stateKey)
	zoned := false
	for _, key := range []string{v1.LabelFailureDomainBetaZone, v1.LabelFailureDomainBetaRegion, v1.LabelTopologyZone, v1.LabelTopologyRegion} {
		_, ok := node.Node.Labels[key]
		zoned = zoned || ok
	}
	if !zoned {
		return nil
	}
	for _, t := range want {
		v, ok := node.Node.Labels[t.key]
		if !ok {
			// The names before and after GA stand for each other.
			v, ok = node.Node.Labels[otherName(t.key)]
		}
		if !ok || !t.values.Has(v) {
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonConflict)
		}
	}
	return nil
}

func otherName(key string) string {
	switch key {
	case v1.LabelFailureDomainBetaZone:
		return v1.LabelTopologyZone
	case v1.LabelFailureDomainBetaRegion:
		return v1.LabelTopologyRegion
	case v1.LabelTopologyZone:
		return v1.LabelFailureDomainBetaZone
	}
	return v1.LabelFailureDomainBetaRegion
}
