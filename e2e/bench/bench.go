// Package bench measures an API server through a kubeconfig with bounded work,
// and prints a JSON line for each measurement. It measures any Kubernetes, so
// that two of them can be compared.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"skiff/e2e/bench/figures"
)

// Config says what is measured and how much work it is.
type Config struct {
	// Kubeconfig is the file that names the cluster.
	Kubeconfig string
	// Clients work side by side, each on a connection of its own. Default 16.
	Clients int
	// Objects is the number of ConfigMaps. Default 3000.
	Objects int
	// Size is the number of bytes in each ConfigMap. Default 1024.
	Size int
	// Lists is the number of full lists. Default 50.
	Lists int
	// Watchers is the number of watches in the fan-out. Default 100.
	Watchers int
	// WatchedWrites is the number of writes that every watcher sees. Default 200.
	WatchedWrites int
	// ScheduledPods is the number of pods that are given a node, of some that are
	// objects alone. Default 500; negative is none.
	ScheduledPods int
	// Image is that of the pods whose start is measured; empty measures none.
	Image string
	// StartedPods is their number. Default 20.
	StartedPods int
	// PacedPods is how many pods come at a rate of PodsPerSecond, which is 5 by
	// default, with Image. Default none.
	PacedPods     int
	PodsPerSecond float64
	// BatchPods is how many pods with Image are made at once. Default none.
	BatchPods int
	// IdleSeconds is how long what they cost is measured then, where Server is
	// named. Default 60.
	IdleSeconds int
	// Services is how many are there while the programming of more is measured,
	// from the node that this runs on. Default none.
	Services int
	// CustomResources is how many CustomResourceDefinitions are there while what
	// they cost is measured. Default none, at most 5000.
	CustomResources int
	// LargeLists is how many lists of 100 MiB are taken at once while what they cost
	// the process of Server is measured. Default none.
	LargeLists int
	// IdleWatches is how many watches of which nothing comes are open while what
	// they cost the process of Server is measured. Default none.
	IdleWatches int
	// Server is the process of the API server, when it is on this machine: its
	// time and memory are printed at the end.
	Server int
	// Namespace is made for the run and deleted after. Default skiff-bench.
	Namespace string
	// Progress is where progress is shown; nil for nowhere.
	Progress io.Writer
}

// Result is one measurement.
type Result struct {
	Name       string  `json:"name"`
	Clients    int     `json:"clients"`
	Operations int     `json:"operations"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"perSecond"`
	P50Millis  float64 `json:"p50Millis"`
	P99Millis  float64 `json:"p99Millis"`
	// ServerMicros is the processors' time that the server used for an operation,
	// where Server is named.
	ServerMicros float64 `json:"serverMicros,omitempty"`
}

// run is one run against one cluster.
type run struct {
	cfg     Config
	clients []kubernetes.Interface
	out     *json.Encoder
	data    string
}

func (c *Config) complete() error {
	if c.Kubeconfig == "" {
		return errors.New("bench: Kubeconfig is empty: name the file of the cluster to measure")
	}
	for _, f := range []struct {
		name  string
		value *int
		def   int
	}{
		{"Clients", &c.Clients, 16}, {"Objects", &c.Objects, 3000}, {"Size", &c.Size, 1024},
		{"Lists", &c.Lists, 50}, {"Watchers", &c.Watchers, 100}, {"WatchedWrites", &c.WatchedWrites, 200},
		{"StartedPods", &c.StartedPods, 20}, {"PacedPods", &c.PacedPods, 0}, {"BatchPods", &c.BatchPods, 0}, {"IdleSeconds", &c.IdleSeconds, 60},
		{"Services", &c.Services, 0}, {"CustomResources", &c.CustomResources, 0}, {"LargeLists", &c.LargeLists, 0}, {"IdleWatches", &c.IdleWatches, 0},
	} {
		if *f.value == 0 {
			*f.value = f.def
		}
		if *f.value < 0 {
			return fmt.Errorf("bench: %s %d: want a positive number", f.name, *f.value)
		}
	}
	if c.CustomResources > maxCustomResources {
		return fmt.Errorf("bench: CustomResources %d: want at most %d", c.CustomResources, maxCustomResources)
	}
	if c.PodsPerSecond == 0 {
		c.PodsPerSecond = 5
	}
	if c.PodsPerSecond < 0 {
		return fmt.Errorf("bench: PodsPerSecond %g: want a positive number", c.PodsPerSecond)
	}
	if c.ScheduledPods == 0 {
		c.ScheduledPods = 500
	}
	c.ScheduledPods = max(c.ScheduledPods, 0)
	if c.Namespace == "" {
		c.Namespace = "skiff-bench"
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return nil
}

// Run measures the cluster and prints a JSON line per measurement to out. It
// deletes what it made, also when it fails.
func Run(ctx context.Context, c Config, out io.Writer) (err error) {
	if err := c.complete(); err != nil {
		return err
	}
	r := &run{cfg: c, out: json.NewEncoder(out), data: text(c.Size)}
	for range c.Clients {
		k, err := connect(c.Kubeconfig)
		if err != nil {
			return err
		}
		r.clients = append(r.clients, k)
	}
	namespaces := r.clients[0].CoreV1().Namespaces()
	if _, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.Namespace}}, metav1.CreateOptions{}); err != nil {
		if apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("bench: the namespace %s is there already: delete it, or name another", c.Namespace)
		}
		return fmt.Errorf("bench: create the namespace: %w", err)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if e := namespaces.Delete(end, c.Namespace, metav1.DeleteOptions{}); e != nil {
			err = errors.Join(err, fmt.Errorf("bench: delete the namespace: %w", e))
		}
	}()
	var before time.Duration
	if c.Server != 0 {
		if before, err = figures.CPU(c.Server); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	for _, m := range measurements {
		if err := m(ctx, r); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	if c.Server == 0 {
		return nil
	}
	after, err := figures.CPU(c.Server)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	rss, anon, err := figures.Memory(c.Server)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return r.out.Encode(Usage{Name: "server", CPUSeconds: (after - before).Seconds(), RSSMiB: rss, AnonMiB: anon})
}

// connect makes a client with a connection of its own, without a limit of its
// own, that speaks protobuf.
func connect(kubeconfig string) (kubernetes.Interface, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("bench: kubeconfig %s: %w", kubeconfig, err)
	}
	cfg.QPS = -1
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	// A dialer of its own keeps client-go from sharing one transport.
	cfg.Dial = dialer()
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("bench: kubeconfig %s: %w", kubeconfig, err)
	}
	return kubernetes.NewForConfigAndClient(cfg, h)
}

func text(size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = 'a' + byte(i%26)
	}
	return string(b)
}

// spread does n operations, shared out among the clients, and reports them.
func (r *run) spread(ctx context.Context, name string, n int, do func(ctx context.Context, k kubernetes.Interface, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([]time.Duration, n)
	var next, done atomic.Int64
	var all sync.WaitGroup
	stop := r.progress(name, n, &done)
	used := r.used()
	began := time.Now()
	for _, k := range r.clients {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				start := time.Now()
				if err := do(ctx, k, i); err != nil {
					cancel(fmt.Errorf("%s %d: %w", name, i, err))
					return
				}
				took[i] = time.Since(start)
				done.Add(1)
			}
		})
	}
	all.Wait()
	whole := time.Since(began)
	stop()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return r.report(name, len(r.clients), whole, took, r.used()-used)
}

// used is the processors' time of the server's process; 0 where it is not known.
func (r *run) used() time.Duration {
	if r.cfg.Server == 0 {
		return 0
	}
	t, err := figures.CPU(r.cfg.Server)
	if err != nil {
		return 0 // what it used in all is read later, and fails then
	}
	return t
}

// report prints what operations took, and the server of them; 0 where that is
// not known.
func (r *run) report(name string, clients int, whole time.Duration, took []time.Duration, server time.Duration) error {
	slices.Sort(took)
	return r.out.Encode(Result{
		Name: name, Clients: clients, Operations: len(took), Seconds: whole.Seconds(), ServerMicros: float64(server.Microseconds()) / float64(len(took)),
		PerSecond: float64(len(took)) / whole.Seconds(), P50Millis: figures.Millis(figures.Percentile(took, 50)), P99Millis: figures.Millis(figures.Percentile(took, 99)),
	})
}

// progress shows once a second how far a measurement is, until it is stopped.
func (r *run) progress(name string, n int, done *atomic.Int64) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(r.cfg.Progress, "%s: %d of %d\n", name, done.Load(), n)
			case <-end:
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}
