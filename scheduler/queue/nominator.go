package queue

import (
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"skiff/scheduler/framework"
)

// nominator keeps the pods that wait for room on a node.
type nominator struct {
	mu     sync.RWMutex
	byNode map[string][]*framework.PodInfo
	nodeOf map[types.UID]string
}

var _ framework.Nominator = (*nominator)(nil)

func newNominator() *nominator {
	return &nominator{byNode: map[string][]*framework.PodInfo{}, nodeOf: map[types.UID]string{}}
}

// Nominate records pod on node; node "" removes.
func (n *nominator) Nominate(pod *framework.PodInfo, node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remove(pod.Pod.UID)
	if node != "" {
		n.byNode[node] = append(n.byNode[node], pod)
		n.nodeOf[pod.Pod.UID] = node
	}
}

// NominatedPods lists the pods waiting for node. The slice is never changed.
func (n *nominator) NominatedPods(node string) []*framework.PodInfo {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.byNode[node]
}

// nodeFor is the node that the pod waits for, if any.
func (n *nominator) nodeFor(uid types.UID) string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.nodeOf[uid]
}

func (n *nominator) drop(pod *v1.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remove(pod.UID)
}

func (n *nominator) remove(uid types.UID) {
	node, ok := n.nodeOf[uid]
	if !ok {
		return
	}
	delete(n.nodeOf, uid)
	// Readers hold the old slice, so the remaining pods go to a new one.
	rest := slices.DeleteFunc(slices.Clone(n.byNode[node]), func(p *framework.PodInfo) bool { return p.Pod.UID == uid })
	if len(rest) == 0 {
		delete(n.byNode, node)
		return
	}
	n.byNode[node] = rest
}
