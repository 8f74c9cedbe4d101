package csinode

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

func node() *v1.Node {
	return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1", Labels: map[string]string{"zone": "z1"}}}
}

func entry(name, id string, count *int32, keys ...string) storagev1.CSINodeDriver {
	d := storagev1.CSINodeDriver{Name: name, NodeID: id, TopologyKeys: keys}
	if count != nil {
		d.Allocatable = &storagev1.VolumeNodeResources{Count: count}
	}
	return d
}

func TestMerge(t *testing.T) {
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "u1"}}
	with := func(drivers ...storagev1.CSINodeDriver) *storagev1.CSINode {
		return &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: "n1", OwnerReferences: owner}, Spec: storagev1.CSINodeSpec{Drivers: drivers}}
	}
	old := with(entry("a", "1", nil))
	old.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "before"}, {APIVersion: "x/v1", Kind: "X", UID: "x"}}
	owned := with(entry("a", "1", nil))
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "x/v1", Kind: "X", UID: "x"}, owner[0]}
	for _, tc := range []struct {
		name    string
		have    *storagev1.CSINode
		drivers map[string]Driver
		gone    map[string]bool
		want    *storagev1.CSINode
		same    bool
	}{
		{name: "a new node has none", want: with([]storagev1.CSINodeDriver{}...)},
		{
			name: "drivers in order, with all they say", have: with(),
			drivers: map[string]Driver{"b": {NodeID: "n-b", MaxVolumes: 3}, "a": {NodeID: "n-a", Topology: map[string]string{"y": "1", "x": "2"}}},
			want:    with(entry("a", "n-a", nil, "x", "y"), entry("b", "n-b", ptr.To(int32(3)))),
		},
		{name: "nothing new", have: with(entry("a", "1", nil)), drivers: map[string]Driver{"a": {NodeID: "1"}}, want: with(entry("a", "1", nil)), same: true},
		{name: "another identifier", have: with(entry("a", "1", nil)), drivers: map[string]Driver{"a": {NodeID: "2"}}, want: with(entry("a", "2", nil))},
		{name: "a limit that went", have: with(entry("a", "1", ptr.To(int32(9)))), drivers: map[string]Driver{"a": {NodeID: "1"}}, want: with(entry("a", "1", nil))},
		{name: "drivers that have not come back yet stay", have: with(entry("a", "1", nil)), drivers: map[string]Driver{}, want: with(entry("a", "1", nil)), same: true},
		{name: "drivers that went are out", have: with(entry("a", "1", nil), entry("b", "1", nil)), gone: map[string]bool{"a": true}, want: with(entry("b", "1", nil))},
		{name: "a driver that came back", have: with(entry("a", "1", nil)), gone: map[string]bool{"a": true}, drivers: map[string]Driver{"a": {NodeID: "1"}}, want: with(entry("a", "1", nil)), same: true},
		{name: "the object of an earlier node", have: old, want: owned},
		{name: "a limit too large for the field", have: with(), drivers: map[string]Driver{"a": {NodeID: "1", MaxVolumes: 1 << 40}}, want: with(entry("a", "1", ptr.To(int32(1<<31-1))))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, changed := merge(tc.have, node(), tc.drivers, tc.gone)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("CSINode (-want +got):\n%s", diff)
			}
			if changed == tc.same {
				t.Errorf("changed is %t", changed)
			}
		})
	}
}

func TestTopology(t *testing.T) {
	add, refused := topology(map[string]string{"zone": "z1"}, map[string]Driver{
		"good":  {Topology: map[string]string{"zone": "z1", "rack": "r1"}},
		"other": {Topology: map[string]string{"zone": "z2", "slot": "s1"}},
	})
	if diff := cmp.Diff(map[string]string{"rack": "r1"}, add); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	want := `detected topology value collision: driver reported "zone":"z2" but existing label is "zone":"z1"`
	if err := refused["other"]; err == nil || err.Error() != want || len(refused) != 1 {
		t.Errorf("refused %v, want %s", refused, want)
	}
}

// run runs a manager over objects.
func run(t *testing.T, objects ...runtime.Object) (*Manager, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects...)
	m, err := New(Config{Client: client, Name: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return m, client
}

func TestPublished(t *testing.T) {
	m, client := run(t, node())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := m.Set(ctx, "a", Driver{NodeID: "id", Topology: map[string]string{"rack": "r1"}}); err != nil {
		t.Fatal(err)
	}
	got, err := client.StorageV1().CSINodes().Get(ctx, "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]storagev1.CSINodeDriver{entry("a", "id", nil, "rack")}, got.Spec.Drivers); diff != "" {
		t.Errorf("drivers (-want +got):\n%s", diff)
	}
	labelled, err := client.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
	if err != nil || labelled.Labels["rack"] != "r1" {
		t.Errorf("the node's labels are %v (%v), want rack", labelled.Labels, err)
	}
	err = m.Set(ctx, "b", Driver{NodeID: "id", Topology: map[string]string{"zone": "elsewhere"}})
	if err == nil || !strings.Contains(err.Error(), "collision") {
		t.Errorf("a driver of another zone: %v, want a collision", err)
	}
	m.Remove("a")
	// Set returns when everything that was asked before is done.
	if err := m.Set(ctx, "c", Driver{NodeID: "c"}); err != nil {
		t.Fatal(err)
	}
	if got, err = client.StorageV1().CSINodes().Get(ctx, "n1", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]storagev1.CSINodeDriver{entry("c", "c", nil)}, got.Spec.Drivers); diff != "" {
		t.Errorf("drivers (-want +got):\n%s", diff)
	}
}

func TestPublishedAfterFailures(t *testing.T) {
	m, client := run(t, node())
	failures := 3
	client.PrependReactor("update", "csinodes", func(ktesting.Action) (bool, runtime.Object, error) {
		failures--
		return failures >= 0, nil, context.DeadlineExceeded
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, name := range []string{"a", "b"} {
		if err := m.Set(ctx, name, Driver{NodeID: "id"}); err != nil {
			t.Fatal(err)
		}
	}
}
