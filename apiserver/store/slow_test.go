package store

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// What only a slow test selects comes and goes like anything selected.
func TestWatchWithSlowPredicate(t *testing.T) {
	s, _ := newStore(t, nil)
	ctx := t.Context()
	wanted := Predicate{Slow: func(it *Item) bool {
		obj, err := it.Object()
		return err == nil && obj.(*corev1.ConfigMap).Data["v"] == "yes"
	}}
	for name, value := range map[string]string{"a": "yes", "b": "no"} {
		if _, err := s.Create(ctx, "ns", name, object(name, value)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := s.List(ctx, ListOptions{Predicate: wanted})
	if err != nil || len(l.Items) != 1 {
		t.Fatalf("the list is %v, %v", l, err)
	}
	w, err := s.Watch(ctx, WatchOptions{Predicate: wanted, ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	initial, _, _ := w.Initial()
	got := []string{fmt.Sprint(len(initial), " at first")}
	for _, step := range []struct{ name, value string }{{"b", "yes"}, {"a", "no"}, {"a", "still"}, {"b", "yes"}} {
		if _, _, err := s.Update(ctx, "ns", step.name, false, set(step.value)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Delete(ctx, "ns", "b", Preconditions{}); err != nil {
		t.Fatal(err)
	}
	for len(got) < 4 {
		b, err := w.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range b.Changes {
			_, name := s.splitKey(c.Item.Key)
			got = append(got, fmt.Sprint(c.Type, " ", name))
		}
	}
	want := []string{"1 at first", string(watch.Added) + " b", string(watch.Deleted) + " a", string(watch.Deleted) + " b"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
