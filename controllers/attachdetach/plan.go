package attachdetach

import (
	"cmp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
)

// force is how long after its last pod a node that is not ready can hold a
// volume.
const force = 6 * time.Minute

// Input is what is known about one node's volumes.
type Input struct {
	// Node is nil when there is none of the name any more.
	Node *v1.Node
	Now  time.Time
	// Wanted are the volumes that the node's pods need.
	Wanted []*v1.PersistentVolume
	// Here are the node's attachments, by volume; Elsewhere those of other
	// nodes, with the node's name.
	Here      map[string]*storage.VolumeAttachment
	Elsewhere map[string]string
	// Known are the volumes of Here that there still are.
	Known map[string]*v1.PersistentVolume
	// Unwanted is since when a volume of Here is not needed.
	Unwanted map[string]time.Time
}

// Plan is what to do. The node's status is written before anything is
// detached: its kubelet mounts only what is in there.
type Plan struct {
	Attach []*v1.PersistentVolume
	// Busy are wanted volumes that another node holds.
	Busy []*v1.PersistentVolume
	// Attached is what the node's status has to say.
	Attached []v1.AttachedVolume
	Detach   []*storage.VolumeAttachment
	// Held says that the kubelet still uses something that is not wanted.
	Held bool
}

// Decide makes the plan of a node.
func Decide(in Input) Plan {
	var out Plan
	wanted := map[string]bool{}
	for _, v := range in.Wanted {
		wanted[v.Name] = true
		if in.Node == nil || in.Here[v.Name] != nil {
			continue
		}
		if _, busy := in.Elsewhere[v.Name]; busy && !Shared(v) {
			out.Busy = append(out.Busy, v)
			continue
		}
		out.Attach = append(out.Attach, v)
	}
	for name, a := range in.Here {
		if a.DeletionTimestamp != nil || !wanted[name] && !Made(a.Name) {
			continue
		}
		v := in.Known[name]
		if !wanted[name] && !in.holds(v, name) {
			out.Detach = append(out.Detach, a)
			continue
		}
		out.Held = out.Held || !wanted[name]
		if a.Status.Attached && v != nil && v.Spec.CSI != nil {
			out.Attached = append(out.Attached, v1.AttachedVolume{Name: UniqueName(v.Spec.CSI.Driver, v.Spec.CSI.VolumeHandle)})
		}
	}
	slices.SortFunc(out.Attached, func(a, b v1.AttachedVolume) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Detach, func(a, b *storage.VolumeAttachment) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// holds says whether the node's kubelet still has the volume mounted. One that
// is marked as out of service is not believed, nor one that has not been ready
// while nobody needed the volume for long.
func (in *Input) holds(v *v1.PersistentVolume, name string) bool {
	if in.Node == nil || v == nil || v.Spec.CSI == nil || !slices.Contains(in.Node.Status.VolumesInUse, UniqueName(v.Spec.CSI.Driver, v.Spec.CSI.VolumeHandle)) {
		return false
	}
	if slices.ContainsFunc(in.Node.Spec.Taints, func(t v1.Taint) bool { return t.Key == v1.TaintNodeOutOfService }) {
		return false
	}
	since, ok := in.Unwanted[name]
	return ready(in.Node) || !ok || in.Now.Sub(since) < force
}

func ready(n *v1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c v1.NodeCondition) bool { return c.Type == v1.NodeReady && c.Status == v1.ConditionTrue })
}

// Shared says whether the volume may be on several nodes at once.
func Shared(v *v1.PersistentVolume) bool {
	return slices.ContainsFunc(v.Spec.AccessModes, func(m v1.PersistentVolumeAccessMode) bool {
		return m == v1.ReadWriteMany || m == v1.ReadOnlyMany
	})
}
