package garbagecollector

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"skiff/client/ownerwatch"
	"skiff/controllers/loop"
)

// collector is a controller whose API server answers with handle.
func collector(t *testing.T, handle http.HandlerFunc) *Controller {
	t.Helper()
	web := httptest.NewServer(handle)
	t.Cleanup(web.Close)
	cfg := &rest.Config{Host: web.URL}
	client := kubernetes.NewForConfigOrDie(cfg)
	c, err := New(Config{
		Parts:    loop.Parts{Client: client, Informers: informers.NewSharedInformerFactory(client, 0), Clock: clock.RealClock{}, Events: record.NewFakeRecorder(9)},
		Metadata: metadata.NewForConfigOrDie(cfg),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Controller) knows(gvr schema.GroupVersionResource) []string {
	var out []string
	for _, uid := range c.graph.Of(gvr) {
		out = append(out, string(uid))
	}
	slices.Sort(out)
	return out
}

// What an answer tells is what the graph has, also where an earlier answer told
// of more.
func TestStreamFillsTheGraph(t *testing.T) {
	things := &ownerwatch.Resource{Group: "example.com", Version: "v1", Resource: "things", Kind: "Thing"}
	newer := &ownerwatch.Resource{Group: "example.com", Version: "v2", Resource: "things", Kind: "Thing"}
	others := &ownerwatch.Resource{Group: "example.com", Version: "v1", Resource: "others", Kind: "Other"}
	object := func(uid string, owners ...string) *ownerwatch.Object {
		o := &ownerwatch.Object{UID: types.UID(uid), Name: uid, Namespace: "ns"}
		for _, w := range owners {
			o.Owners = append(o.Owners, metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Thing", Name: w, UID: types.UID(w)})
		}
		return o
	}
	list := func(n int, r *ownerwatch.Resource, objects ...*ownerwatch.Object) []ownerwatch.Frame {
		out := []ownerwatch.Frame{{Kind: ownerwatch.List, Number: n, Resource: r}}
		for _, o := range objects {
			out = append(out, ownerwatch.Frame{Kind: ownerwatch.Put, Number: n, Object: o})
		}
		return append(out, ownerwatch.Frame{Kind: ownerwatch.Listed, Number: n})
	}
	synced := []ownerwatch.Frame{{Kind: ownerwatch.Synced}}
	for _, tc := range []struct {
		name           string
		answers        [][]ownerwatch.Frame
		things, others []string // UIDs in the end
		newer          []string
		covered        bool // things
	}{
		{"a list", [][]ownerwatch.Frame{slices.Concat(list(1, things, object("a"), object("b", "a")), synced)}, []string{"a", "b"}, nil, nil, true},
		{"changes", [][]ownerwatch.Frame{slices.Concat(list(1, things, object("a")), synced, []ownerwatch.Frame{
			{Kind: ownerwatch.Put, Number: 1, Object: object("c")}, {Kind: ownerwatch.Delete, Number: 1, Object: object("a")}})}, []string{"c"}, nil, nil, true},
		{"a second answer without an object", [][]ownerwatch.Frame{
			slices.Concat(list(1, things, object("a"), object("b")), synced), slices.Concat(list(7, things, object("b")), synced)}, []string{"b"}, nil, nil, true},
		{"a second answer without a resource", [][]ownerwatch.Frame{
			slices.Concat(list(1, things, object("a")), list(2, others, object("o")), synced), slices.Concat(list(1, others, object("o")), synced)}, nil, []string{"o"}, nil, false},
		{"a second answer that is cut keeps what the first told", [][]ownerwatch.Frame{
			slices.Concat(list(1, things, object("a")), list(2, others, object("o")), synced), list(1, others, object("o"))}, []string{"a"}, []string{"o"}, nil, true},
		{"a resource that goes", [][]ownerwatch.Frame{slices.Concat(list(1, things, object("a")), synced, []ownerwatch.Frame{{Kind: ownerwatch.Gone, Number: 1}})}, nil, nil, nil, false},
		{"another version", [][]ownerwatch.Frame{slices.Concat(list(1, things, object("a"), object("b")), synced, list(1, newer, object("b")), synced)}, nil, nil, []string{"b"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			next := 0
			c := collector(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != ownerwatch.Path || next >= len(tc.answers) {
					http.NotFound(w, r)
					return
				}
				for _, f := range tc.answers[next] {
					_ = json.NewEncoder(w).Encode(f)
				}
				next++
			})
			for range tc.answers {
				if err := c.stream.follow(t.Context()); err == nil {
					t.Fatal("an answer that ended gave no error")
				}
			}
			if !c.gate.TryLock() {
				t.Fatal("the gate is held after the answer")
			}
			c.gate.Unlock()
			got := fmt.Sprint(c.knows(things.GVR()), c.knows(others.GVR()), c.knows(newer.GVR()), c.stream.covers(things.GVR().GroupResource()))
			if diff := cmp.Diff(fmt.Sprint(tc.things, tc.others, tc.newer, tc.covered), got); diff != "" {
				t.Errorf("things, others, newer, covered (-want +got):\n%s", diff)
			}
		})
	}
}

// Deletions wait while what is new fills.
func TestGateWhileTheStreamFills(t *testing.T) {
	c := collector(t, http.NotFound)
	r := reader{s: c.stream, resources: map[int]*followed{}}
	r.frame(&ownerwatch.Frame{Kind: ownerwatch.List, Number: 1, Resource: &ownerwatch.Resource{Version: "v1", Resource: "things", Kind: "Thing"}})
	if c.gate.TryRLock() {
		t.Fatal("the collector goes on with half of the graph")
	}
	r.frame(&ownerwatch.Frame{Kind: ownerwatch.Listed, Number: 1})
	r.frame(&ownerwatch.Frame{Kind: ownerwatch.Synced})
	if !c.gate.TryRLock() {
		t.Fatal("the collector does not go on")
	}
	c.gate.RUnlock()
}
