package nodeipam

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"skiff/controllers/loop"
)

// A node that the cache still shows without its range is not given another.
func TestSyncBehind(t *testing.T) {
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"}}
	client := fake.NewClientset(node.DeepCopy())
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := New(Config{
		Parts:        loop.Parts{Client: client, Informers: factory, Events: record.NewFakeRecorder(10)},
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := factory.Core().V1().Nodes().Informer().GetIndexer().Add(node); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.sync(t.Context(), "node"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := client.CoreV1().Nodes().Get(t.Context(), "node", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"10.244.0.0/24"}, got.Spec.PodCIDRs); d != "" {
		t.Errorf("the node's ranges (-want +got):\n%s", d)
	}
}
