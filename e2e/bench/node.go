package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"skiff/e2e/bench/figures"
)

// Density is what a batch of idle pods costs its node.
type Density struct {
	Name        string  `json:"name"`
	Pods        int     `json:"pods"`
	Seconds     float64 `json:"seconds"`     // how long the node was watched
	CPUPercent  float64 `json:"cpuPercent"`  // of one core, with the pods idle
	BeforeMiB   float64 `json:"beforeMiB"`   // the server's memory without the pods
	AfterMiB    float64 `json:"afterMiB"`    // and with them
	Shims       int     `json:"shims"`       // how many were found
	ShimRSSMiB  float64 `json:"shimRSSMiB"`  // of one, the code that all share included
	ShimAnonMiB float64 `json:"shimAnonMiB"` // of one, its alone
}

// pacedPods measures the way from creation to Running of pods that come at a
// steady rate, whether the ones before them run or not.
func pacedPods(ctx context.Context, r *run) (err error) {
	if r.cfg.Image == "" || r.cfg.PacedPods == 0 {
		return nil
	}
	defer r.removed("paced", &err)
	gap := time.Duration(float64(time.Second) / r.cfg.PodsPerSecond)
	begin := time.Now()
	return r.startPods(ctx, "paced", r.cfg.PacedPods, func(ctx context.Context, i int) error {
		return pause(ctx, time.Until(begin.Add(time.Duration(i)*gap)))
	})
}

// batchPods measures the way to Running of pods that are all made at once, and
// then what they cost while they idle.
func batchPods(ctx context.Context, r *run) (err error) {
	if r.cfg.Image == "" || r.cfg.BatchPods == 0 {
		return nil
	}
	var before float64
	// The pods of the measurements before this are gone by then.
	if err := pause(ctx, settle); err != nil {
		return err
	}
	known := shims()
	if r.cfg.Server != 0 {
		if _, before, err = figures.Memory(r.cfg.Server); err != nil {
			return err
		}
	}
	defer r.removed("batch", &err)
	if err := r.startPods(ctx, "batch", r.cfg.BatchPods, func(context.Context, int) error { return nil }); err != nil {
		return err
	}
	if r.cfg.Server == 0 || r.cfg.IdleSeconds == 0 {
		return nil
	}
	return r.idlePods(ctx, before, known)
}

// settle is how long a node has to come to rest.
const settle = 10 * time.Second

func (r *run) idlePods(ctx context.Context, before float64, known map[int]bool) error {
	if err := pause(ctx, settle); err != nil {
		return err
	}
	used, err := figures.CPU(r.cfg.Server)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, time.Duration(r.cfg.IdleSeconds)*time.Second); err != nil {
		return err
	}
	whole := time.Since(began)
	now, err := figures.CPU(r.cfg.Server)
	if err != nil {
		return err
	}
	d := Density{Name: "idle-pods", Pods: r.cfg.BatchPods, Seconds: whole.Seconds(), CPUPercent: 100 * float64(now-used) / float64(whole), BeforeMiB: before}
	if _, d.AfterMiB, err = figures.Memory(r.cfg.Server); err != nil {
		return err
	}
	for pid := range shims() {
		if known[pid] {
			continue
		}
		rss, anon, err := figures.Memory(pid)
		if err != nil {
			continue // it has ended
		}
		d.Shims++
		d.ShimRSSMiB += rss
		d.ShimAnonMiB += anon
	}
	if d.Shims > 0 {
		d.ShimRSSMiB /= float64(d.Shims)
		d.ShimAnonMiB /= float64(d.Shims)
	}
	return r.out.Encode(d)
}

// shims lists the shims that run on this machine.
func shims() map[int]bool {
	out := make(map[int]bool)
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		line, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(line), "skiff-shim\x00") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			out[pid] = true
		}
	}
	return out
}

// startPods makes n pods, each on a goroutine of its own once its turn has come,
// and measures each from its creation until it runs.
func (r *run) startPods(ctx context.Context, kind string, n int, turn func(ctx context.Context, i int) error) error {
	ctx, stop := context.WithTimeoutCause(ctx, 5*time.Minute, fmt.Errorf("%s: not all of %d pods run after five minutes", kind, n))
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seen, err := r.follow(ctx, cancel, kind, n, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	if err != nil {
		return err
	}
	took, errs := make([]time.Duration, n), make([]error, n)
	var done atomic.Int64
	shown := r.progress(kind, n, &done)
	var all sync.WaitGroup
	began := time.Now()
	for i := range n {
		all.Go(func() {
			if errs[i] = turn(ctx, i); errs[i] != nil {
				return
			}
			start := time.Now()
			if errs[i] = r.createPod(ctx, r.clients[i%len(r.clients)], kind, i, r.sleeper()); errs[i] != nil {
				return
			}
			select {
			case at := <-seen[i]:
				took[i] = at.Sub(start)
				done.Add(1)
			case <-ctx.Done():
				errs[i] = context.Cause(ctx)
			}
		})
	}
	all.Wait()
	whole := time.Since(began)
	shown()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return r.report(kind+"-pods", min(n, len(r.clients)), whole, took, 0)
}

func (r *run) createPod(ctx context.Context, k kubernetes.Interface, kind string, i int, spec corev1.PodSpec) error {
	p := &corev1.Pod{Spec: spec, ObjectMeta: metav1.ObjectMeta{
		Name: kind + "-" + name(i), Labels: map[string]string{"bench": kind}, Annotations: map[string]string{"number": fmt.Sprint(i)}}}
	_, err := k.CoreV1().Pods(r.cfg.Namespace).Create(ctx, p, metav1.CreateOptions{})
	return err
}

// sleeper is a pod that runs and does nothing.
func (r *run) sleeper() corev1.PodSpec {
	return corev1.PodSpec{
		Containers:                    []corev1.Container{{Name: "main", Image: r.cfg.Image, ImagePullPolicy: corev1.PullIfNotPresent}},
		TerminationGracePeriodSeconds: ptr.To[int64](0),
	}
}
