package bench

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"skiff/e2e/bench/figures"
)

// LargeLists is what lists cost the server that many clients take at once.
type LargeLists struct {
	Name    string  `json:"name"`
	Format  string  `json:"format"`
	Lists   int     `json:"lists"`
	ListMiB float64 `json:"listMiB"` // of one, as it was read
	Seconds float64 `json:"seconds"`
	// BeforeMiB is what the server held of memory, PeakMiB the most that it held
	// meanwhile.
	BeforeMiB float64 `json:"beforeMiB"`
	PeakMiB   float64 `json:"peakMiB"`
	// ServerSeconds is the processors' time that it used.
	ServerSeconds float64 `json:"serverSeconds"`
}

const (
	// largeList is how much data a large list has, largeObject what an object of
	// it has: it must stay below what a request may be.
	largeList   = 100 << 20
	largeObject = 1 << 20 * 9 / 10
)

// largeLists has clients take lists of 100 MiB at once, in each format.
func largeLists(ctx context.Context, r *run) (err error) {
	n := r.cfg.LargeLists
	if n == 0 || r.cfg.Server == 0 {
		return nil
	}
	const kind = "bench-large"
	data := map[string]string{"data": text(largeObject)}
	err = r.spread(ctx, "large-create", largeList/largeObject, func(ctx context.Context, k kubernetes.Interface, i int) error {
		_, err := k.CoreV1().ConfigMaps(r.cfg.Namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", kind, i), Labels: map[string]string{kind: ""}}, Data: data}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	for _, format := range []string{"application/vnd.kubernetes.protobuf", "application/json", "application/cbor"} {
		if err := r.largeList(ctx, n, kind, format); err != nil {
			return err
		}
	}
	return r.clients[0].CoreV1().ConfigMaps(r.cfg.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: kind})
}

func (r *run) largeList(ctx context.Context, n int, selector, format string) (err error) {
	l := LargeLists{Name: "large-lists", Format: format, Lists: n}
	if l.BeforeMiB, _, err = figures.Memory(r.cfg.Server); err != nil {
		return err
	}
	if err := figures.ForgetPeak(r.cfg.Server); err != nil {
		return err
	}
	var read, done atomic.Int64
	stop := r.progress(l.Name, n, &done)
	used, began := r.used(), time.Now()
	lists, ctx := errgroup.WithContext(ctx)
	for i := range n {
		lists.Go(func() error {
			body, err := r.clients[i%len(r.clients)].CoreV1().RESTClient().Get().
				Namespace(r.cfg.Namespace).Resource("configmaps").Param("labelSelector", selector).SetHeader("Accept", format).Stream(ctx)
			if err != nil {
				return fmt.Errorf("large list %d: %w", i, err)
			}
			defer body.Close()
			size, err := io.Copy(io.Discard, body)
			read.Add(size)
			done.Add(1)
			return err
		})
	}
	err = lists.Wait()
	stop()
	if err != nil {
		return err
	}
	l.Seconds = time.Since(began).Seconds()
	l.ServerSeconds = (r.used() - used).Seconds()
	l.ListMiB = float64(read.Load()) / float64(n) / (1 << 20)
	if l.PeakMiB, err = figures.Peak(r.cfg.Server); err != nil {
		return err
	}
	return r.out.Encode(l)
}
