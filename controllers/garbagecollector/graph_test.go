package garbagecollector

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

var (
	gvr = schema.GroupVersionResource{Version: "v1", Resource: "things"}
	gvk = schema.GroupVersionKind{Version: "v1", Kind: "Thing"}
)

func thing(uid string, change func(*metav1.PartialObjectMetadata), owners ...string) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: uid, Namespace: "default", UID: types.UID(uid)}}
	for _, w := range owners {
		o.OwnerReferences = append(o.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "Thing", Name: w, UID: types.UID(w), BlockOwnerDeletion: ptr.To(true)})
	}
	if change != nil {
		change(o)
	}
	return o
}

func foreground(o *metav1.PartialObjectMetadata) {
	o.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	o.Finalizers = []string{metav1.FinalizerDeleteDependents}
}

func misnamed(o *metav1.PartialObjectMetadata) { o.OwnerReferences[0].Name = "x" }

func TestGraph(t *testing.T) {
	for name, tc := range map[string]struct {
		before []*metav1.PartialObjectMetadata
		event  func(g *Graph) Attempts
		delete []string
		orphan []string
	}{
		"an owner that is unknown is asked for": {nil, func(g *Graph) Attempts { return g.Observe(gvr, gvk, thing("a", nil, "gone")) }, []string{"a"}, nil},
		"a known owner is fine": {
			[]*metav1.PartialObjectMetadata{thing("owner", nil)},
			func(g *Graph) Attempts { return g.Observe(gvr, gvk, thing("a", nil, "owner")) }, nil, nil},
		"an owner of another namespace is asked for": {
			[]*metav1.PartialObjectMetadata{thing("owner", func(o *metav1.PartialObjectMetadata) { o.Namespace = "other" })},
			func(g *Graph) Attempts { return g.Observe(gvr, gvk, thing("a", nil, "owner")) }, []string{"a"}, nil},
		"an owner of the cluster is fine": {
			[]*metav1.PartialObjectMetadata{thing("owner", func(o *metav1.PartialObjectMetadata) { o.Namespace = "" })},
			func(g *Graph) Attempts { return g.Observe(gvr, gvk, thing("a", nil, "owner")) }, nil, nil},
		"an owner by another name is asked for": {
			[]*metav1.PartialObjectMetadata{thing("owner", nil)},
			func(g *Graph) Attempts { return g.Observe(gvr, gvk, thing("a", misnamed, "owner")) }, []string{"a"}, nil},
		"an owner that shows up was not what all meant": {
			[]*metav1.PartialObjectMetadata{thing("a", misnamed, "owner"), thing("b", nil, "owner"), thing("c", func(o *metav1.PartialObjectMetadata) { o.Namespace = "other" }, "owner")},
			func(g *Graph) Attempts { return g.Observe(gvr, gvk, thing("owner", nil)) }, []string{"a", "c"}, nil},
		"an owner that goes takes its dependents": {
			[]*metav1.PartialObjectMetadata{thing("owner", nil), thing("a", nil, "owner"), thing("b", nil, "owner")},
			func(g *Graph) Attempts { return g.Forget("owner") }, []string{"a", "b"}, nil},
		"foreground deletion visits both": {
			[]*metav1.PartialObjectMetadata{thing("owner", nil), thing("a", nil, "owner")},
			func(g *Graph) Attempts { return g.Observe(gvr, gvk, thing("owner", foreground)) }, []string{"a", "owner"}, nil},
		"the last dependent frees its owner": {
			[]*metav1.PartialObjectMetadata{thing("owner", foreground), thing("a", nil, "owner")},
			func(g *Graph) Attempts { return g.Forget("a") }, []string{"owner"}, nil},
		"orphaning": {
			[]*metav1.PartialObjectMetadata{thing("owner", nil)},
			func(g *Graph) Attempts {
				return g.Observe(gvr, gvk, thing("owner", func(o *metav1.PartialObjectMetadata) {
					o.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
					o.Finalizers = []string{metav1.FinalizerOrphanDependents}
				}))
			}, nil, []string{"owner"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewGraph()
			for _, o := range tc.before {
				g.Observe(gvr, gvk, o)
			}
			a := tc.event(g)
			names := func(uids []types.UID) (out []string) {
				for _, u := range uids {
					out = append(out, string(u))
				}
				slices.Sort(out)
				return slices.Compact(out)
			}
			if diff := cmp.Diff(tc.delete, names(a.Delete)); diff != "" {
				t.Error("delete", diff)
			}
			if diff := cmp.Diff(tc.orphan, names(a.Orphan)); diff != "" {
				t.Error("orphan", diff)
			}
		})
	}
}

func TestGraphForgetsVirtualOwners(t *testing.T) {
	g := NewGraph()
	g.Observe(gvr, gvk, thing("a", nil, "gone"))
	g.Forget("a")
	if len(g.nodes) != 0 {
		t.Errorf("%d nodes are left", len(g.nodes))
	}
}

func TestDecide(t *testing.T) {
	one := []metav1.OwnerReference{{}}
	for name, tc := range map[string]struct {
		owners     Owners
		dependents int
		want       Decision
	}{
		"no owners":          {Owners{}, 0, Leave},
		"owner lives":        {Owners{Solid: one}, 0, Leave},
		"one of two is gone": {Owners{Solid: one, Dangling: one}, 0, Unlink},
		"all gone":           {Owners{Dangling: one}, 3, Delete},
		"owner waits for it": {Owners{Waiting: one}, 0, Delete},
		"it has its own":     {Owners{Waiting: one}, 2, DeleteForeground},
	} {
		if got := Decide(tc.owners, tc.dependents); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// A reference that misnames an owner must not make it absent for those that name
// it rightly: they would be deleted.
func TestAbsentOwnersKeepReferencesApart(t *testing.T) {
	ref := metav1.OwnerReference{APIVersion: "v1", Kind: "Thing", Name: "x", UID: "owner"}
	a := newAbsentOwners(2)
	a.add(ref, "ns")
	right, kind := ref, ref
	right.Name, kind.Kind = "owner", "Other"
	if !a.has(ref, "ns") || a.has(right, "ns") || a.has(kind, "ns") || a.has(ref, "other") {
		t.Errorf("absent are %v", a.known)
	}
}
