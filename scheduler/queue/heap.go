package queue

import (
	"container/heap"

	"k8s.io/apimachinery/pkg/types"

	"skiff/scheduler/framework"
)

// podHeap is a heap of pods with lookup by UID.
type podHeap struct{ s heapSlice }

type heapSlice struct {
	less  func(a, b *framework.QueuedPodInfo) bool
	pods  []*framework.QueuedPodInfo
	index map[types.UID]int
}

func newPodHeap(less func(a, b *framework.QueuedPodInfo) bool) *podHeap {
	return &podHeap{heapSlice{less: less, index: map[types.UID]int{}}}
}

func (h *podHeap) len() int { return len(h.s.pods) }

func (h *podHeap) peek() *framework.QueuedPodInfo {
	if len(h.s.pods) == 0 {
		return nil
	}
	return h.s.pods[0]
}

func (h *podHeap) get(uid types.UID) *framework.QueuedPodInfo {
	if i, ok := h.s.index[uid]; ok {
		return h.s.pods[i]
	}
	return nil
}

// put adds the pod or puts it in its place after a change.
func (h *podHeap) put(p *framework.QueuedPodInfo) {
	if i, ok := h.s.index[p.Pod.UID]; ok {
		h.s.pods[i] = p
		heap.Fix(&h.s, i)
		return
	}
	heap.Push(&h.s, p)
}

func (h *podHeap) pop() *framework.QueuedPodInfo {
	return heap.Pop(&h.s).(*framework.QueuedPodInfo)
}

func (h *podHeap) remove(uid types.UID) *framework.QueuedPodInfo {
	i, ok := h.s.index[uid]
	if !ok {
		return nil
	}
	return heap.Remove(&h.s, i).(*framework.QueuedPodInfo)
}

func (s *heapSlice) Len() int           { return len(s.pods) }
func (s *heapSlice) Less(i, j int) bool { return s.less(s.pods[i], s.pods[j]) }
func (s *heapSlice) Swap(i, j int) {
	s.pods[i], s.pods[j] = s.pods[j], s.pods[i]
	s.index[s.pods[i].Pod.UID], s.index[s.pods[j].Pod.UID] = i, j
}
func (s *heapSlice) Push(x any) {
	p := x.(*framework.QueuedPodInfo)
	s.index[p.Pod.UID] = len(s.pods)
	s.pods = append(s.pods, p)
}
func (s *heapSlice) Pop() any {
	last := len(s.pods) - 1
	p := s.pods[last]
	s.pods[last] = nil
	s.pods = s.pods[:last]
	delete(s.index, p.Pod.UID)
	return p
}
