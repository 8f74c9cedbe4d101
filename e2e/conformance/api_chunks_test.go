package conformance

import (
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Conformance: [sig-api-machinery] Servers with support for API chunking should return chunks of results for list calls
func TestAPIChunks(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().PodTemplates(s.name)
	const total = 400
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range total / 20 {
				_, err := c.Create(s.ctx, &corev1.PodTemplate{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("template-%04d", i*total/20+j)},
					Template:   corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "test", Image: "test2"}}}},
				}, metav1.CreateOptions{})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	o := metav1.ListOptions{Limit: 17}
	seen, version := 0, ""
	for {
		list, err := c.List(s.ctx, o)
		s.must(err)
		if len(list.Items) > int(o.Limit) {
			t.Fatalf("%d objects in a chunk of %d", len(list.Items), o.Limit)
		}
		if version == "" {
			version = list.ResourceVersion
			// What comes after the first chunk is no part of the list.
			_, err := c.Create(s.ctx, &corev1.PodTemplate{ObjectMeta: metav1.ObjectMeta{Name: "template-late"}}, metav1.CreateOptions{})
			if err == nil {
				t.Error("a template without containers was made")
			}
		}
		equal(s, "the version of a chunk", version, list.ResourceVersion)
		for i, item := range list.Items {
			equal(s, "a name", fmt.Sprintf("template-%04d", seen+i), item.Name)
		}
		seen += len(list.Items)
		if list.Continue == "" {
			if list.RemainingItemCount != nil {
				t.Errorf("the last chunk says that %d remain", *list.RemainingItemCount)
			}
			break
		}
		if list.RemainingItemCount == nil || *list.RemainingItemCount != int64(total-seen) {
			t.Errorf("after %d objects a chunk says that %v remain", seen, list.RemainingItemCount)
		}
		o.Continue = list.Continue
	}
	equal(s, "the number in chunks", total, seen)
	list, err := c.List(s.ctx, metav1.ListOptions{})
	s.must(err)
	equal(s, "the number at once", total, len(list.Items))
}
