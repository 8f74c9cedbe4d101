package deployment

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/controllers/loop"
)

// TestRollout drives the whole controller by hand through two templates.
func TestRollout(t *testing.T) {
	ctx := context.Background()
	d := deployment(2, "1", "0")
	client := fake.NewClientset(d)
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := New(Config{Parts: loop.Parts{Client: client, Informers: factory}})
	if err != nil {
		t.Fatal(err)
	}
	sync := func() {
		t.Helper()
		fresh, err := client.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		store := factory.Apps().V1().Deployments().Informer().GetStore()
		if err := store.Replace([]any{fresh}, ""); err != nil {
			t.Fatal(err)
		}
		sets, err := client.AppsV1().ReplicaSets("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var objs []any
		for i := range sets.Items {
			rs := &sets.Items[i]
			rs.UID = types.UID(rs.Name) // the fake gives none
			// Every pod is available at once.
			rs.Status.Replicas, rs.Status.ReadyReplicas, rs.Status.AvailableReplicas = *rs.Spec.Replicas, *rs.Spec.Replicas, *rs.Spec.Replicas
			if _, err := client.AppsV1().ReplicaSets("default").UpdateStatus(ctx, rs, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			objs = append(objs, rs)
		}
		if err := c.sets.GetStore().Replace(objs, ""); err != nil {
			t.Fatal(err)
		}
		if err := c.sync(ctx, "default/web"); err != nil {
			t.Fatal(err)
		}
	}
	sizes := func() map[string]int32 {
		t.Helper()
		sets, err := client.AppsV1().ReplicaSets("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]int32{}
		for _, rs := range sets.Items {
			out[rs.Annotations[Revision]] = *rs.Spec.Replicas
		}
		return out
	}
	for range 3 {
		sync()
	}
	if got := sizes(); got["1"] != 2 || len(got) != 1 {
		t.Fatalf("after the first rollout: %v", got)
	}
	now, err := client.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !Complete(now, now.Status) {
		t.Fatalf("not complete: %+v", now.Status)
	}
	now.Spec.Template.Labels = map[string]string{"app": "web", "v": "2"}
	if _, err := client.AppsV1().Deployments("default").Update(ctx, now, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		sync()
		got := sizes()
		if sum := got["1"] + got["2"]; sum < 2 || sum > 3 {
			t.Fatalf("sizes %v leave the limits", got)
		}
	}
	if got := sizes(); got["1"] != 0 || got["2"] != 2 {
		t.Fatalf("after the second rollout: %v", got)
	}
}
