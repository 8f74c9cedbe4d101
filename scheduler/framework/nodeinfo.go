package framework

import (
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// ImageState is what is known of an image on a node.
type ImageState struct {
	Size int64
	// NumNodes counts the nodes that have the image, as of the last update of this node.
	NumNodes int
}

// NodeInfo is a node with its pods, summed up. In a snapshot it is read-only;
// dry runs change a Clone.
type NodeInfo struct {
	// Node is nil while only pods of the node are known.
	Node *v1.Node
	Pods []*PodInfo
	// PodsWithAffinity and PodsWithRequiredAntiAffinity are subsets of Pods.
	PodsWithAffinity             []*PodInfo
	PodsWithRequiredAntiAffinity []*PodInfo
	UsedPorts                    HostPorts
	Requested                    Resource
	// NonZeroRequested counts pods without requests with the defaults.
	NonZeroRequested Resource
	Allocatable      Resource
	ImageStates      map[string]ImageState
	// PVCRefCounts counts the pods using each claim, by "namespace/name".
	PVCRefCounts map[string]int
	// Generation grows with each change in the cache.
	Generation int64
}

// NewNodeInfo makes a node with pods; node may be nil.
func NewNodeInfo(node *v1.Node, pods ...*PodInfo) *NodeInfo {
	n := &NodeInfo{UsedPorts: HostPorts{}, PVCRefCounts: map[string]int{}}
	if node != nil {
		n.SetNode(node)
	}
	for _, p := range pods {
		n.AddPod(p)
	}
	return n
}

// Name is the node's name, empty when unknown.
func (n *NodeInfo) Name() string {
	if n.Node == nil {
		return ""
	}
	return n.Node.Name
}

// SetNode replaces the node object.
func (n *NodeInfo) SetNode(node *v1.Node) {
	n.Node = node
	n.Allocatable = NewResource(node.Status.Allocatable)
}

// AddPod counts a pod in.
func (n *NodeInfo) AddPod(p *PodInfo) {
	n.Pods = append(n.Pods, p)
	if p.hasAffinity {
		n.PodsWithAffinity = append(n.PodsWithAffinity, p)
	}
	if p.hasRequiredAntiAf {
		n.PodsWithRequiredAntiAffinity = append(n.PodsWithRequiredAntiAffinity, p)
	}
	n.count(p, 1)
}

// RemovePod counts the pod out; it is an error when it is not there.
func (n *NodeInfo) RemovePod(pod *v1.Pod) error {
	i := indexOf(n.Pods, pod)
	if i < 0 {
		return fmt.Errorf("no pod %s/%s (uid %s) on node %s", pod.Namespace, pod.Name, pod.UID, n.Name())
	}
	p := n.Pods[i]
	n.Pods = cut(n.Pods, i)
	if p.hasAffinity {
		n.PodsWithAffinity = cut(n.PodsWithAffinity, indexOf(n.PodsWithAffinity, pod))
	}
	if p.hasRequiredAntiAf {
		n.PodsWithRequiredAntiAffinity = cut(n.PodsWithRequiredAntiAffinity, indexOf(n.PodsWithRequiredAntiAffinity, pod))
	}
	n.count(p, -1)
	return nil
}

func (n *NodeInfo) count(p *PodInfo, sign int64) {
	n.Requested.addScaled(&p.Requests, sign)
	n.NonZeroRequested.addScaled(&p.NonZeroRequests, sign)
	for _, hp := range PodHostPorts(p.Pod) {
		if sign > 0 {
			n.UsedPorts.add(hp)
		} else {
			n.UsedPorts.remove(hp)
		}
	}
	for i := range p.Pod.Spec.Volumes {
		name := ClaimName(p.Pod, &p.Pod.Spec.Volumes[i])
		if name == "" {
			continue
		}
		key := p.Pod.Namespace + "/" + name
		if n.PVCRefCounts[key] += int(sign); n.PVCRefCounts[key] <= 0 {
			delete(n.PVCRefCounts, key)
		}
	}
}

// Clone copies all that AddPod and RemovePod change.
func (n *NodeInfo) Clone() *NodeInfo {
	c := *n
	c.Pods = slices.Clone(n.Pods)
	c.PodsWithAffinity = slices.Clone(n.PodsWithAffinity)
	c.PodsWithRequiredAntiAffinity = slices.Clone(n.PodsWithRequiredAntiAffinity)
	c.UsedPorts = maps.Clone(n.UsedPorts)
	c.PVCRefCounts = maps.Clone(n.PVCRefCounts)
	c.Requested = n.Requested.clone()
	c.NonZeroRequested = n.NonZeroRequested.clone()
	return &c
}

// ClaimName is the name of the claim that a volume uses, empty for other volumes.
func ClaimName(pod *v1.Pod, vol *v1.Volume) string {
	switch {
	case vol.PersistentVolumeClaim != nil:
		return vol.PersistentVolumeClaim.ClaimName
	case vol.Ephemeral != nil:
		return pod.Name + "-" + vol.Name
	}
	return ""
}

func indexOf(pods []*PodInfo, pod *v1.Pod) int {
	return slices.IndexFunc(pods, func(p *PodInfo) bool { return p.Pod.UID == pod.UID })
}

// cut removes element i without keeping the order, which nobody relies on.
func cut(pods []*PodInfo, i int) []*PodInfo {
	last := len(pods) - 1
	pods[i] = pods[last]
	pods[last] = nil
	if last == 0 {
		return nil
	}
	return pods[:last]
}
