// Package cache holds what the scheduler knows of nodes and the pods on them,
// including pods that it placed and whose binding the API server has not yet
// shown, and publishes it as a snapshot per scheduling cycle.
package cache

import (
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"skiff/scheduler/framework"
)

// Config configures a Cache.
type Config struct {
	// AssumedTTL is how long a pod whose binding was written stays without being
	// seen in the API. 0, the default, keeps it until it is seen or deleted.
	AssumedTTL time.Duration
	// Clock defaults to the real one.
	Clock clock.PassiveClock
}

// Cache tracks nodes and pods. A pod's life in it:
//
//	           Assume            Add
//	(unknown) ───────► assumed ───────► added ──Update──► added
//	    ▲                │  ▲             │
//	    │  Forget/expiry │  │ Add (other  │ Remove
//	    └────────────────┘  │ node wins)  ▼
//	    └─────────────────────────────(unknown)
//
// Only assumed pods expire, and only after FinishBinding. All methods are safe
// for concurrent use; UpdateSnapshot has a single caller.
type Cache struct {
	ttl   time.Duration
	clock clock.PassiveClock

	mu         sync.Mutex
	nodes      map[string]*entry
	tree       nodeTree
	treeDirty  bool
	dirty      map[string]struct{} // nodes changed since the last snapshot
	pods       map[types.UID]*podState
	assumed    map[types.UID]struct{}
	images     map[string]map[string]struct{} // image name to the nodes that have it
	generation int64
}

type entry struct {
	info *framework.NodeInfo
	// published is set when a snapshot holds info: the next change works on a copy.
	published bool
}

type podState struct {
	info    *framework.PodInfo
	expires time.Time // zero: never
}

// New makes an empty cache.
func New(c Config) *Cache {
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	return &Cache{ttl: c.AssumedTTL, clock: c.Clock, nodes: map[string]*entry{}, dirty: map[string]struct{}{}, pods: map[types.UID]*podState{},
		assumed: map[types.UID]struct{}{}, images: map[string]map[string]struct{}{}, tree: nodeTree{zones: map[string][]string{}, zoneOf: map[string]string{}}}
}

// writable returns the node's info for a change. Caller holds mu.
func (c *Cache) writable(name string) *framework.NodeInfo {
	e, ok := c.nodes[name]
	if !ok {
		e = &entry{info: framework.NewNodeInfo(nil)}
		c.nodes[name] = e
	}
	if e.published {
		e.info, e.published = e.info.Clone(), false
	}
	c.generation++
	e.info.Generation = c.generation
	c.dirty[name] = struct{}{}
	return e.info
}

// dropIfEmpty forgets a node without object and pods. Caller holds mu.
func (c *Cache) dropIfEmpty(name string) {
	if e := c.nodes[name]; e != nil && e.info.Node == nil && len(e.info.Pods) == 0 {
		delete(c.nodes, name)
		c.dirty[name] = struct{}{}
	}
}

// SetNode adds or replaces a node and returns its info, which the caller only reads.
func (c *Cache) SetNode(node *v1.Node) *framework.NodeInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := c.writable(node.Name)
	c.dropImages(info.Node)
	if c.tree.set(node) {
		c.treeDirty = true
	}
	info.SetNode(node)
	info.ImageStates = c.addImages(node)
	// Concurrent readers get their own copy: later changes must not reach it.
	return info.Clone()
}

// RemoveNode forgets the node object; its pods stay until they are removed.
func (c *Cache) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.nodes[name]; !ok || e.info.Node == nil {
		return
	}
	info := c.writable(name)
	c.dropImages(info.Node)
	info.Node = nil
	info.ImageStates = nil
	info.Allocatable = framework.Resource{}
	if c.tree.remove(name) {
		c.treeDirty = true
	}
	c.dropIfEmpty(name)
}

func (c *Cache) addImages(node *v1.Node) map[string]framework.ImageState {
	if len(node.Status.Images) == 0 {
		return nil
	}
	states := make(map[string]framework.ImageState, len(node.Status.Images))
	for _, img := range node.Status.Images {
		for _, name := range img.Names {
			on := c.images[name]
			if on == nil {
				on = map[string]struct{}{}
				c.images[name] = on
			}
			on[node.Name] = struct{}{}
			states[name] = framework.ImageState{Size: img.SizeBytes, NumNodes: len(on)}
		}
	}
	return states
}

func (c *Cache) dropImages(node *v1.Node) {
	if node == nil {
		return
	}
	for _, img := range node.Status.Images {
		for _, name := range img.Names {
			if on := c.images[name]; on != nil {
				if delete(on, node.Name); len(on) == 0 {
					delete(c.images, name)
				}
			}
		}
	}
}

// place and displace keep pods and nodes in step. Caller holds mu.
func (c *Cache) place(p *framework.PodInfo) {
	c.writable(p.Pod.Spec.NodeName).AddPod(p)
	c.pods[p.Pod.UID] = &podState{info: p}
}

func (c *Cache) displace(st *podState) error {
	name := st.info.Pod.Spec.NodeName
	delete(c.pods, st.info.Pod.UID)
	delete(c.assumed, st.info.Pod.UID)
	err := c.writable(name).RemovePod(st.info.Pod)
	c.dropIfEmpty(name)
	return err
}

// AssumePod counts a pod on the node that it was placed on, before it is bound.
func (c *Cache) AssumePod(p *framework.PodInfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pods[p.Pod.UID]; ok {
		return fmt.Errorf("pod %s/%s (uid %s) is in the cache already, so it cannot be assumed", p.Pod.Namespace, p.Pod.Name, p.Pod.UID)
	}
	c.place(p)
	c.assumed[p.Pod.UID] = struct{}{}
	return nil
}

// FinishBinding starts the time after which an assumed pod expires.
func (c *Cache) FinishBinding(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.assumed[uid]; ok && c.ttl > 0 {
		c.pods[uid].expires = c.clock.Now().Add(c.ttl)
	}
}

// ForgetPod takes back an assumption. A pod seen in the API meanwhile stays.
func (c *Cache) ForgetPod(uid types.UID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.assumed[uid]; !ok {
		return nil
	}
	return c.displace(c.pods[uid])
}

// SetPod adds or replaces a pod that the API shows as assigned. It ends the
// assumption; where the nodes differ the API's wins.
func (c *Cache) SetPod(p *framework.PodInfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if st, ok := c.pods[p.Pod.UID]; ok {
		err = c.displace(st)
	}
	c.place(p)
	return err
}

// RemovePod forgets a pod.
func (c *Cache) RemovePod(uid types.UID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	st, ok := c.pods[uid]
	if !ok {
		return nil
	}
	return c.displace(st)
}

// Pod finds a pod, nil when unknown.
func (c *Cache) Pod(uid types.UID) *v1.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st, ok := c.pods[uid]; ok {
		return st.info.Pod
	}
	return nil
}

// IsAssumed tells whether the pod waits for its binding to be seen.
func (c *Cache) IsAssumed(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.assumed[uid]
	return ok
}

// Sizes counts nodes with an object, pods, and assumed pods.
func (c *Cache) Sizes() (nodes, pods, assumed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tree.zoneOf), len(c.pods), len(c.assumed)
}

// expire drops assumed pods whose time is over. Caller holds mu.
func (c *Cache) expire() {
	if c.ttl <= 0 {
		return
	}
	now := c.clock.Now()
	for uid := range c.assumed {
		if st := c.pods[uid]; !st.expires.IsZero() && now.After(st.expires) {
			// The pod is on the node that it was assumed on, so this cannot fail.
			_ = c.displace(st)
		}
	}
}
