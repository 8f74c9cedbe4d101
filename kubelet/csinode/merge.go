package csinode

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Driver is what a CSI driver says of this node.
type Driver struct {
	NodeID string
	// Topology are labels that say where the node is.
	Topology map[string]string
	// MaxVolumes that can be on the node; 0 means no limit.
	MaxVolumes int64
}

// topology gives the labels that the node lacks, and why some drivers'
// cannot be added.
func topology(have map[string]string, drivers map[string]Driver) (add map[string]string, refused map[string]error) {
	add, refused = map[string]string{}, map[string]error{}
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	for _, name := range slices.Sorted(maps.Keys(drivers)) {
		labels := drivers[name].Topology
		for key, value := range labels {
			if old, ok := all[key]; ok && old != value {
				refused[name] = fmt.Errorf("detected topology value collision: driver reported %q:%q but existing label is %q:%q", key, value, key, old)
			}
		}
		if refused[name] != nil {
			continue
		}
		for key, value := range labels {
			if _, ok := all[key]; !ok {
				all[key], add[key] = value, value
			}
		}
	}
	return add, refused
}

// merge brings the node's CSINode up to date: drivers are set, gone ones are
// taken out, and those of which nothing is known yet stay, as they may be on
// their way back. have is nil when there is no object.
func merge(have *storagev1.CSINode, node *v1.Node, drivers map[string]Driver, gone map[string]bool) (next *storagev1.CSINode, changed bool) {
	if have == nil {
		next = &storagev1.CSINode{
			ObjectMeta: metav1.ObjectMeta{Name: node.Name},
			Spec:       storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{}},
		}
	} else {
		next = have.DeepCopy()
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
	if !slices.ContainsFunc(next.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == owner.UID }) {
		// Those of an earlier node of the same name would have the object collected.
		next.OwnerReferences = slices.DeleteFunc(next.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == "Node" })
		next.OwnerReferences = append(next.OwnerReferences, owner)
	}
	list := slices.DeleteFunc(next.Spec.Drivers, func(d storagev1.CSINodeDriver) bool {
		_, back := drivers[d.Name]
		return gone[d.Name] && !back
	})
	for _, name := range slices.Sorted(maps.Keys(drivers)) {
		entry := published(name, drivers[name])
		i := slices.IndexFunc(list, func(d storagev1.CSINodeDriver) bool { return d.Name == name })
		switch {
		case i < 0:
			list = append(list, entry)
		case !equality.Semantic.DeepEqual(list[i], entry):
			list[i] = entry
		}
	}
	next.Spec.Drivers = list
	return next, have == nil || !equality.Semantic.DeepEqual(have, next)
}

func published(name string, d Driver) storagev1.CSINodeDriver {
	out := storagev1.CSINodeDriver{Name: name, NodeID: d.NodeID, TopologyKeys: slices.SortedFunc(maps.Keys(d.Topology), strings.Compare)}
	if d.MaxVolumes > 0 {
		out.Allocatable = &storagev1.VolumeNodeResources{Count: ptr.To(int32(min(d.MaxVolumes, math.MaxInt32)))}
	}
	return out
}
