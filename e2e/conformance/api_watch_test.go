package conformance

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// labelled makes a config map with the label watch.
func (s *space) labelled(name, label string) *corev1.ConfigMap {
	s.t.Helper()
	cm, err := s.client.CoreV1().ConfigMaps(s.name).Create(s.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"watch": label}}}, metav1.CreateOptions{})
	s.must(err)
	return cm
}

// mutation sets the data of a config map.
func (s *space) mutation(name, value string) *corev1.ConfigMap {
	s.t.Helper()
	cm, err := s.client.CoreV1().ConfigMaps(s.name).Patch(s.ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"data":{"mutation":%q}}`, value), metav1.PatchOptions{})
	s.must(err)
	return cm
}

func (s *space) relabel(name, label string) {
	s.t.Helper()
	_, err := s.client.CoreV1().ConfigMaps(s.name).Patch(s.ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"watch":%q}}}`, label), metav1.PatchOptions{})
	s.must(err)
}

func mutated(value string) func(metav1.Object) bool {
	return func(o metav1.Object) bool { return o.(*corev1.ConfigMap).Data["mutation"] == value }
}

// Conformance: [sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps
func TestAPIWatchLabels(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().ConfigMaps(s.name)
	a := s.watching(c.Watch(s.ctx, metav1.ListOptions{LabelSelector: "watch=a"}))
	b := s.watching(c.Watch(s.ctx, metav1.ListOptions{LabelSelector: "watch=b"}))
	both := s.watching(c.Watch(s.ctx, metav1.ListOptions{LabelSelector: "watch in (a,b)"}))
	s.labelled("cm-a", "a")
	for _, w := range []*watcher{a, both} {
		w.next(watch.Added, "a", isNamed("cm-a"))
	}
	for _, v := range []string{"1", "2"} {
		s.mutation("cm-a", v)
		for _, w := range []*watcher{a, both} {
			w.next(watch.Modified, "a", mutated(v))
		}
	}
	s.must(c.Delete(s.ctx, "cm-a", metav1.DeleteOptions{}))
	for _, w := range []*watcher{a, both} {
		w.next(watch.Deleted, "a", mutated("2"))
	}
	s.labelled("cm-b", "b")
	s.must(c.Delete(s.ctx, "cm-b", metav1.DeleteOptions{}))
	for _, w := range []*watcher{b, both} {
		w.next(watch.Added, "b", isNamed("cm-b"))
		w.next(watch.Deleted, "b", isNamed("cm-b"))
	}
	a.silent(time.Second)
}

// Conformance: [sig-api-machinery] Watchers should be able to start watching from a specific resource version
func TestAPIWatchFrom(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().ConfigMaps(s.name)
	s.labelled("cm", "from")
	first := s.mutation("cm", "1")
	s.mutation("cm", "2")
	s.must(c.Delete(s.ctx, "cm", metav1.DeleteOptions{}))
	w := s.watching(c.Watch(s.ctx, metav1.ListOptions{LabelSelector: "watch=from", ResourceVersion: first.ResourceVersion}))
	w.next(watch.Modified, "the second", mutated("2"))
	w.next(watch.Deleted, "the object", mutated("2"))
}

// Conformance: [sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the previous watch
func TestAPIWatchAgain(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().ConfigMaps(s.name)
	o := metav1.ListOptions{LabelSelector: "watch=again"}
	w := s.watching(c.Watch(s.ctx, o))
	s.labelled("cm", "again")
	s.mutation("cm", "1")
	w.next(watch.Added, "the object", isNamed("cm"))
	last := w.next(watch.Modified, "the first", mutated("1"))
	w.w.Stop()
	s.mutation("cm", "2")
	o.ResourceVersion = last.GetResourceVersion()
	w = s.watching(c.Watch(s.ctx, o))
	s.must(c.Delete(s.ctx, "cm", metav1.DeleteOptions{}))
	w.next(watch.Modified, "the second", mutated("2"))
	w.next(watch.Deleted, "the object", nil)
}

// Conformance: [sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the selector
func TestAPIWatchLeaves(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().ConfigMaps(s.name)
	w := s.watching(c.Watch(s.ctx, metav1.ListOptions{LabelSelector: "watch=stays"}))
	s.labelled("cm", "stays")
	s.mutation("cm", "1")
	s.relabel("cm", "gone")
	w.next(watch.Added, "the object", isNamed("cm"))
	w.next(watch.Modified, "the object", mutated("1"))
	w.next(watch.Deleted, "the object", mutated("1"))
	s.mutation("cm", "2")
	w.silent(time.Second)
	s.relabel("cm", "stays")
	w.next(watch.Added, "the object", mutated("2"))
	s.mutation("cm", "3")
	w.next(watch.Modified, "the object", mutated("3"))
	s.must(c.Delete(s.ctx, "cm", metav1.DeleteOptions{}))
	w.next(watch.Deleted, "the object", mutated("3"))
}

// Conformance: [sig-api-machinery] Watchers should receive events on concurrent watches in same order
func TestAPIWatchOrder(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().ConfigMaps(s.name)
	done := make(chan struct{})
	const writes = 60
	go func() {
		defer close(done)
		for i := range writes {
			name := fmt.Sprint("cm-", i%7)
			var err error
			if i/7%3 == 0 {
				_, err = s.configMap(name, nil)
			} else if i/7%3 == 1 {
				_, err = c.Patch(s.ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"data":{"i":"%d"}}`, i), metav1.PatchOptions{})
			} else {
				err = c.Delete(s.ctx, name, metav1.DeleteOptions{})
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	t.Cleanup(func() { <-done })
	list, err := c.List(s.ctx, metav1.ListOptions{})
	s.must(err)
	first := s.watching(c.Watch(s.ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion}))
	all := []*watcher{first}
	for range writes / 2 {
		var version string
		for _, w := range all {
			e, ok := <-w.w.ResultChan()
			if !ok {
				t.Fatal("a watch ended")
			}
			got := e.Object.(*corev1.ConfigMap).ResourceVersion
			if version == "" {
				version = got
			} else if got != version {
				t.Fatalf("watches saw %s and %s", version, got)
			}
		}
		if len(all) < 20 {
			all = append(all, s.watching(c.Watch(s.ctx, metav1.ListOptions{ResourceVersion: version})))
		}
	}
}
