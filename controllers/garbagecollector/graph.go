package garbagecollector

import (
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Node is an object, or an owner that is only known from references to it.
type Node struct {
	UID       types.UID
	Resource  schema.GroupVersionResource // empty while virtual
	Reference metav1.OwnerReference       // how the object is named
	Namespace string
	Owners    []metav1.OwnerReference

	// Virtual is an owner that no watch has shown yet.
	Virtual bool
	// Deleting and Foreground mirror the object's deletion.
	Deleting   bool
	Foreground bool
	Orphaning  bool

	dependents map[types.UID]*Node
}

// Blocks says whether the node must go before its owner can.
func (n *Node) Blocks(owner types.UID) bool {
	for _, ref := range n.Owners {
		if ref.UID == owner {
			return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
		}
	}
	return false
}

// means says whether a reference of one of namespace's objects is to the node: an
// UID alone is not enough.
func (n *Node) means(ref metav1.OwnerReference, namespace string) bool {
	return (n.Namespace == "" || n.Namespace == namespace) &&
		ref.APIVersion == n.Reference.APIVersion && ref.Kind == n.Reference.Kind && ref.Name == n.Reference.Name
}

// Graph holds who owns whom. Each change returns what to look at again.
type Graph struct {
	mu    sync.Mutex // guards nodes and what they hold
	nodes map[types.UID]*Node
}

// NewGraph makes an empty graph.
func NewGraph() *Graph { return &Graph{nodes: map[types.UID]*Node{}} }

// Attempts are the objects to look at, by UID.
type Attempts struct {
	Delete []types.UID
	Orphan []types.UID
}

// Observe records what a watch has shown of an object.
func (g *Graph) Observe(gvr schema.GroupVersionResource, gvk schema.GroupVersionKind, o *metav1.PartialObjectMetadata) Attempts {
	g.mu.Lock()
	defer g.mu.Unlock()
	var a Attempts
	n := g.nodes[o.UID]
	if n == nil {
		n = &Node{UID: o.UID, dependents: map[types.UID]*Node{}}
		g.nodes[o.UID] = n
	}
	virtual := n.Virtual
	n.Virtual = false
	n.Resource = gvr
	n.Namespace = o.Namespace
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	n.Reference = metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: o.Name, UID: o.UID}
	if virtual {
		// References from other namespaces, or by another name, were never valid.
		for uid, d := range n.dependents {
			if slices.ContainsFunc(d.Owners, func(ref metav1.OwnerReference) bool { return ref.UID == o.UID && !n.means(ref, d.Namespace) }) {
				a.Delete = append(a.Delete, uid)
			}
		}
	}
	a.Delete = append(a.Delete, g.setOwners(n, slices.Clone(o.OwnerReferences))...)

	deleting := o.DeletionTimestamp != nil
	foreground := deleting && slices.Contains(o.Finalizers, metav1.FinalizerDeleteDependents)
	orphaning := deleting && slices.Contains(o.Finalizers, metav1.FinalizerOrphanDependents)
	if orphaning && !n.Orphaning {
		a.Orphan = append(a.Orphan, n.UID)
	}
	if foreground && !n.Foreground {
		a.Delete = append(a.Delete, n.UID)
		a.Delete = append(a.Delete, slices.Collect(maps.Keys(n.dependents))...)
	}
	n.Deleting, n.Foreground, n.Orphaning = deleting, foreground, orphaning
	return a
}

// setOwners links n with its owners; the caller holds mu.
func (g *Graph) setOwners(n *Node, owners []metav1.OwnerReference) []types.UID {
	var again []types.UID
	wanted := map[types.UID]bool{}
	for _, ref := range owners {
		wanted[ref.UID] = true
	}
	for _, ref := range n.Owners {
		owner := g.nodes[ref.UID]
		if owner == nil {
			continue
		}
		if !wanted[ref.UID] {
			delete(owner.dependents, n.UID)
			if owner.Virtual && len(owner.dependents) == 0 {
				delete(g.nodes, ref.UID)
			}
		}
		// The owner may have waited for this reference.
		if owner.Foreground {
			again = append(again, owner.UID)
		}
	}
	n.Owners = owners
	for _, ref := range owners {
		owner := g.nodes[ref.UID]
		if owner == nil {
			owner = &Node{UID: ref.UID, Virtual: true, Reference: ref, Namespace: n.Namespace, dependents: map[types.UID]*Node{}}
			g.nodes[ref.UID] = owner
		}
		if _, known := owner.dependents[n.UID]; known {
			continue
		}
		owner.dependents[n.UID] = n
		// An owner that is unknown may be gone, and so may what a reference names
		// that has only the UID right; one that is leaving takes n along.
		if owner.Virtual || owner.Foreground || !owner.means(ref, n.Namespace) {
			again = append(again, n.UID)
		}
	}
	return again
}

// Forget removes an object that is gone.
func (g *Graph) Forget(uid types.UID) Attempts {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil {
		return Attempts{}
	}
	var a Attempts
	for _, ref := range n.Owners {
		if owner := g.nodes[ref.UID]; owner != nil {
			delete(owner.dependents, uid)
			if owner.Foreground {
				a.Delete = append(a.Delete, owner.UID)
			}
			if owner.Virtual && len(owner.dependents) == 0 {
				delete(g.nodes, owner.UID)
			}
		}
	}
	for d := range n.dependents {
		a.Delete = append(a.Delete, d)
	}
	if len(n.dependents) > 0 {
		// References to it live on until the dependents have been handled.
		n.Virtual, n.Owners, n.Deleting, n.Foreground, n.Orphaning = true, nil, false, false, false
		return a
	}
	delete(g.nodes, uid)
	return a
}

// Get returns a copy of the node.
func (g *Graph) Get(uid types.UID) (Node, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil {
		return Node{}, false
	}
	c := *n
	c.dependents = nil
	return c, true
}

// Dependents returns copies of the objects that refer to uid.
func (g *Graph) Dependents(uid types.UID) []Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.nodes[uid]
	if n == nil {
		return nil
	}
	out := make([]Node, 0, len(n.dependents))
	for _, d := range n.dependents {
		c := *d
		c.dependents = nil
		out = append(out, c)
	}
	return out
}

// Of lists the objects of a resource.
func (g *Graph) Of(gvr schema.GroupVersionResource) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []types.UID
	for uid, n := range g.nodes {
		if !n.Virtual && n.Resource == gvr {
			out = append(out, uid)
		}
	}
	return out
}
