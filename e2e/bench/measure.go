package bench

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// measurements run in this order: each uses what the ones before it made.
var measurements = []func(context.Context, *run) error{
	create, get, update, patch, list, fanOut, remove, schedule, podStart, pacedPods, batchPods, services, largeLists, idleWatches, customResources,
}

func dialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return d.DialContext
}

func name(i int) string { return fmt.Sprintf("bench-%06d", i) }

func (r *run) configMap(i int) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name(i)}, Data: map[string]string{"data": r.data}}
}

func create(ctx context.Context, r *run) error {
	return r.spread(ctx, "create", r.cfg.Objects, func(ctx context.Context, k kubernetes.Interface, i int) error {
		_, err := k.CoreV1().ConfigMaps(r.cfg.Namespace).Create(ctx, r.configMap(i), metav1.CreateOptions{})
		return err
	})
}

func get(ctx context.Context, r *run) error {
	return r.spread(ctx, "get", r.cfg.Objects, func(ctx context.Context, k kubernetes.Interface, i int) error {
		_, err := k.CoreV1().ConfigMaps(r.cfg.Namespace).Get(ctx, name(i), metav1.GetOptions{})
		return err
	})
}

func update(ctx context.Context, r *run) error {
	return r.spread(ctx, "update", r.cfg.Objects, func(ctx context.Context, k kubernetes.Interface, i int) error {
		m := r.configMap(i)
		m.Data["updated"] = "yes"
		_, err := k.CoreV1().ConfigMaps(r.cfg.Namespace).Update(ctx, m, metav1.UpdateOptions{})
		return err
	})
}

func patch(ctx context.Context, r *run) error {
	return r.spread(ctx, "patch", r.cfg.Objects, func(ctx context.Context, k kubernetes.Interface, i int) error {
		_, err := k.CoreV1().ConfigMaps(r.cfg.Namespace).Patch(ctx, name(i), types.MergePatchType, []byte(`{"data":{"patched":"yes"}}`), metav1.PatchOptions{})
		return err
	})
}

func list(ctx context.Context, r *run) error {
	return r.spread(ctx, "list", r.cfg.Lists, func(ctx context.Context, k kubernetes.Interface, _ int) error {
		l, err := k.CoreV1().ConfigMaps(r.cfg.Namespace).List(ctx, metav1.ListOptions{})
		if err == nil && len(l.Items) < r.cfg.Objects {
			err = fmt.Errorf("%d objects, want at least %d", len(l.Items), r.cfg.Objects)
		}
		return err
	})
}

func remove(ctx context.Context, r *run) error {
	return r.spread(ctx, "delete", r.cfg.Objects, func(ctx context.Context, k kubernetes.Interface, i int) error {
		return k.CoreV1().ConfigMaps(r.cfg.Namespace).Delete(ctx, name(i), metav1.DeleteOptions{})
	})
}

// fanOut measures how long a write takes to reach a watcher: the delivery of
// every event to every watcher is an operation.
func fanOut(ctx context.Context, r *run) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	writes := r.cfg.WatchedWrites
	sent := make([]atomic.Int64, writes) // when each was written, in nanoseconds
	took := make([]time.Duration, r.cfg.Watchers*writes)
	var done atomic.Int64
	var all sync.WaitGroup
	stop := r.progress("watch", len(took), &done)
	defer func() {
		if stop != nil {
			stop()
		}
	}()
	l, err := r.clients[0].CoreV1().ConfigMaps(r.cfg.Namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	for w := range r.cfg.Watchers {
		from, err := r.clients[w%len(r.clients)].CoreV1().ConfigMaps(r.cfg.Namespace).Watch(ctx, metav1.ListOptions{
			ResourceVersion: l.ResourceVersion, LabelSelector: "fan-out=yes",
		})
		if err != nil {
			cancel(err)
			break
		}
		mine := took[w*writes : (w+1)*writes]
		all.Go(func() {
			defer from.Stop()
			if err := follow(ctx, from, sent, mine, &done); err != nil {
				cancel(err)
			}
		})
	}
	used := r.used()
	began := time.Now()
	for i := 0; i < writes && ctx.Err() == nil; i++ {
		m := r.configMap(r.cfg.Objects + i)
		m.Labels = map[string]string{"fan-out": "yes"}
		m.Annotations = map[string]string{"number": fmt.Sprint(i)}
		sent[i].Store(time.Now().UnixNano())
		if _, err := r.clients[0].CoreV1().ConfigMaps(r.cfg.Namespace).Create(ctx, m, metav1.CreateOptions{}); err != nil {
			cancel(err)
		}
	}
	all.Wait()
	whole := time.Since(began)
	stop()
	stop = nil
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return r.report("watch", r.cfg.Watchers, whole, took, r.used()-used)
}

// follow reads events until each of the writes was seen once.
func follow(ctx context.Context, from watch.Interface, sent []atomic.Int64, took []time.Duration, done *atomic.Int64) error {
	for range took {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-from.ResultChan():
			if !ok {
				return fmt.Errorf("a watch ended early")
			}
			m, ok := e.Object.(*corev1.ConfigMap)
			if !ok || e.Type != watch.Added {
				return fmt.Errorf("a watch sent %s %T, want an added ConfigMap", e.Type, e.Object)
			}
			var i int
			if _, err := fmt.Sscan(m.Annotations["number"], &i); err != nil || i < 0 || i >= len(took) {
				return fmt.Errorf("a watch sent an unknown object %s", m.Name)
			}
			took[i] = time.Duration(time.Now().UnixNano() - sent[i].Load())
			done.Add(1)
		}
	}
	return nil
}
