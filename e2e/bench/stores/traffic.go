package stores

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"skiff/e2e/bench/figures"
)

// Traffic is what a Kubernetes does to its store: nine of ten writes are updates,
// the others creates and deletes in turns, all of them conditional; some list in
// pages and some watch all of it; and old revisions are compacted.
type Traffic struct {
	Name string
	// For is how long.
	For time.Duration
	// Clients write, on objects of their own, Rate writes a second in all; 0 is as
	// many as they can. Objects is how many there are at a time.
	Clients, Rate, Objects int
	// Watchers watch everything, on a stream each.
	Watchers int
	// Window is the age at which revisions are compacted.
	Window time.Duration
	// Sample is how often the server's files and memory are looked at.
	Sample time.Duration
}

const trafficPrefix = "/registry/traffic/"

// Sample is a look at a server under traffic.
type Sample struct {
	Name    string `json:"name"`
	Server  string `json:"server"`
	Seconds int    `json:"seconds"`
	// FileMiB is what its files take, LiveMiB the objects' values, and WindowMiB those
	// that were written since the revision that is compacted.
	FileMiB   float64 `json:"fileMiB"`
	LiveMiB   float64 `json:"liveMiB"`
	WindowMiB float64 `json:"windowMiB"`
	RSSMiB    float64 `json:"rssMiB"`
	AnonMiB   float64 `json:"anonMiB"`
	Writes    int64   `json:"writes"`
}

// Delivery is what became of the writes of a Traffic.
type Delivery struct {
	Name   string `json:"name"`
	Server string `json:"server"`
	// Writes were acknowledged; each watcher should have as many events.
	Writes    int64 `json:"writes"`
	Errors    int64 `json:"errors"`
	Lists     int64 `json:"lists"`
	Events    int64 `json:"events"`
	Expected  int64 `json:"expected"`
	CPUMillis int64 `json:"cpuMillis"`
	// P99ListMillis is of lists in pages.
	P99ListMillis float64 `json:"p99ListMillis"`
	// LargestFileMiB is the most that its files took.
	LargestFileMiB float64 `json:"largestFileMiB"`
}

// traffic is a Traffic under way.
type traffic struct {
	Traffic
	r  *Run
	s  *Server
	id string

	writes, failed, events, lists, objects atomic.Int64
	// sinceCompact are the bytes written since the last compaction, and keptBefore
	// those before it that it left.
	sinceCompact, keptBefore atomic.Int64
	// revision is the newest that was acknowledged.
	revision atomic.Int64
	first    atomic.Pointer[error]

	mu       sync.Mutex
	listTook []time.Duration
	largest  float64
}

// Traffic runs the traffic against each server, one after the other.
func (r *Run) Traffic(ctx context.Context, t Traffic) error {
	all := *r
	all.Rounds = 1
	return all.compare(ctx, t.Name, t.Clients, func(ctx context.Context, s *Server, l *Line) error {
		run := &traffic{Traffic: t, r: r, s: s, id: fmt.Sprintf("%s%d/", trafficPrefix, time.Now().UnixNano())}
		return run.run(ctx, l)
	})
}

func (t *traffic) run(ctx context.Context, l *Line) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns, hangUp, err := dial(t.s.Address, t.Clients)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hangUp()) }()
	before, err := t.s.cpu()
	if err != nil {
		return err
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	for range t.Watchers {
		c, err := connect(t.s.Address)
		if err != nil {
			return err
		}
		stream, err := t.watch(ctx, pb.NewWatchClient(c))
		if err != nil {
			return errors.Join(err, c.Close())
		}
		watching.Go(func() {
			defer c.Close()
			t.count(ctx, stream)
		})
	}
	took := make([][]time.Duration, t.Clients)
	beside, stop := context.WithCancel(ctx)
	defer stop()
	var others, writers sync.WaitGroup
	others.Go(func() { t.compact(beside, conns[0]) })
	others.Go(func() { t.list(beside, conns[len(conns)-1]) })
	others.Go(func() { t.sample(beside) })
	began := time.Now()
	for i := range t.Clients {
		w := &writer{traffic: t, kv: conns[i%len(conns)], prefix: fmt.Sprintf("%s%d/", t.id, i), value: random(t.r.ValueBytes)}
		writers.Go(func() { took[i] = w.write(ctx, began, i) })
	}
	writers.Wait()
	whole := time.Since(began)
	stop()
	others.Wait()
	l.took(slices.Concat(took...), whole)
	l.Errors = int(t.failed.Load())
	if e := t.first.Load(); e != nil {
		l.FirstError = (*e).Error()
	}
	expected := t.writes.Load() * int64(t.Watchers)
	for wait := time.Now(); t.events.Load() < expected && time.Since(wait) < 30*time.Second && ctx.Err() == nil; {
		time.Sleep(10 * time.Millisecond)
	}
	after, err := t.s.cpu()
	if err != nil {
		return err
	}
	slices.Sort(t.listTook)
	return errors.Join(ctx.Err(), t.r.print(Delivery{
		Name: t.Name, Server: t.s.Name, Writes: t.writes.Load(), Errors: t.failed.Load(), Lists: t.lists.Load(),
		Events: t.events.Load(), Expected: expected, CPUMillis: (after - before).Milliseconds(),
		P99ListMillis: figures.Millis(figures.Percentile(t.listTook, 99)), LargestFileMiB: round(t.largest),
	}))
}

func (t *traffic) fail(err error) {
	t.failed.Add(1)
	t.first.CompareAndSwap(nil, &err)
}

// writer is one client: it knows its objects' revisions, as a controller does.
type writer struct {
	*traffic
	kv     pb.KVClient
	prefix string
	value  []byte

	objects []object
	made    int
}

type object struct {
	key      []byte
	revision int64
}

func (w *writer) write(ctx context.Context, began time.Time, first int) []time.Duration {
	var took []time.Duration
	most := max(w.Objects/w.Clients, 2)
	for n := 0; ctx.Err() == nil && time.Since(began) < w.For; n++ {
		if w.Rate > 0 {
			due := began.Add(time.Duration(n*w.Clients+first) * time.Second / time.Duration(w.Rate))
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
			}
		}
		start := time.Now()
		err := w.one(ctx, n, most)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			w.fail(err)
			continue
		}
		took = append(took, time.Since(start))
	}
	return took
}

func (w *writer) one(ctx context.Context, n, most int) error {
	switch {
	case len(w.objects) < most-most/10 || n%20 == 0 && len(w.objects) < most:
		return w.create(ctx)
	case n%10 == 0:
		return w.remove(ctx, rand.IntN(len(w.objects)))
	}
	return w.update(ctx, rand.IntN(len(w.objects)))
}

func (w *writer) create(ctx context.Context) error {
	w.made++
	key := fmt.Appendf(nil, "%s%08d", w.prefix, w.made)
	revision, err := w.txn(ctx, key, 0, put(key, w.value))
	if err == nil {
		w.objects = append(w.objects, object{key, revision})
		w.traffic.objects.Add(1)
	}
	return err
}

func (w *writer) update(ctx context.Context, i int) error {
	o := &w.objects[i]
	w.value[rand.IntN(len(w.value))]++
	revision, err := w.txn(ctx, o.key, o.revision, put(o.key, w.value))
	if err == nil {
		o.revision = revision
	}
	return err
}

func (w *writer) remove(ctx context.Context, i int) error {
	o := w.objects[i]
	_, err := w.txn(ctx, o.key, o.revision, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: o.key}}})
	if err == nil {
		w.objects = slices.Delete(w.objects, i, i+1)
		w.traffic.objects.Add(-1)
	}
	return err
}

func put(key, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: key, Value: value}}}
}

// txn writes if the key is at a revision, and reads it otherwise.
func (w *writer) txn(ctx context.Context, key []byte, expected int64, op *pb.RequestOp) (int64, error) {
	resp, err := w.kv.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: key, Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: expected}}},
		Success: []*pb.RequestOp{op},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key}}}},
	})
	if err != nil {
		return 0, err
	}
	if !resp.Succeeded {
		return 0, fmt.Errorf("%s is not at revision %d", key, expected)
	}
	w.writes.Add(1)
	w.sinceCompact.Add(int64(len(w.value)))
	for {
		last := w.revision.Load()
		if last >= resp.Header.Revision || w.revision.CompareAndSwap(last, resp.Header.Revision) {
			return resp.Header.Revision, nil
		}
	}
}

// watch opens a watch of everything.
func (t *traffic) watch(ctx context.Context, c pb.WatchClient) (pb.Watch_WatchClient, error) {
	stream, err := c.Watch(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte(t.id), RangeEnd: []byte(t.id[:len(t.id)-1] + "0"), PrevKv: true, ProgressNotify: true,
	}}})
	if err != nil {
		return nil, err
	}
	if resp, err := stream.Recv(); err != nil || !resp.Created {
		return nil, fmt.Errorf("a watch was not made: %v, %w", resp, err)
	}
	return stream, nil
}

// count counts a watch's events: in order, none twice.
func (t *traffic) count(ctx context.Context, stream pb.Watch_WatchClient) {
	last := int64(0)
	for {
		resp, err := stream.Recv()
		if ctx.Err() != nil {
			return
		}
		if err == nil && resp.Canceled {
			err = fmt.Errorf("a watch was cancelled: %s", resp.CancelReason)
		}
		if err != nil {
			t.fail(err)
			return
		}
		for _, e := range resp.Events {
			if e.Kv.ModRevision <= last {
				t.fail(fmt.Errorf("an event of revision %d after %d", e.Kv.ModRevision, last))
			}
			last = e.Kv.ModRevision
		}
		t.events.Add(int64(len(resp.Events)))
	}
}

// list reads everything in pages, once a second.
func (t *traffic) list(ctx context.Context, kv pb.KVClient) {
	t.every(ctx, time.Second, func() error {
		start := time.Now()
		if err := t.pages(ctx, kv); err != nil {
			return err
		}
		t.lists.Add(1)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.listTook = append(t.listTook, time.Since(start))
		return nil
	})
}

func (t *traffic) pages(ctx context.Context, kv pb.KVClient) error {
	q := &pb.RangeRequest{Key: []byte(t.id), RangeEnd: []byte(t.id[:len(t.id)-1] + "0"), Limit: 500}
	for {
		resp, err := kv.Range(ctx, q)
		if err != nil {
			return err
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nil
		}
		q.Revision = resp.Header.Revision
		q.Key = append(slices.Clone(resp.Kvs[len(resp.Kvs)-1].Key), 0)
	}
}

// compact lets go of what is older than the window, as an API server does.
func (t *traffic) compact(ctx context.Context, kv pb.KVClient) {
	older := int64(0)
	t.every(ctx, t.Window, func() error {
		at := older
		older = t.revision.Load()
		t.keptBefore.Store(t.sinceCompact.Swap(0))
		if at == 0 {
			return nil
		}
		_, err := kv.Compact(ctx, &pb.CompactionRequest{Revision: at})
		return err
	})
}

// sample prints how large the server is, again and again.
func (t *traffic) sample(ctx context.Context) {
	began := time.Now()
	t.every(ctx, t.Sample, func() error {
		s := Sample{
			Name: t.Name, Server: t.s.Name, Seconds: int(time.Since(began).Seconds() + 0.5), Writes: t.writes.Load(),
			FileMiB: round(size(t.s.Dir)), LiveMiB: round(float64(t.objects.Load()*int64(t.r.ValueBytes)) / (1 << 20)),
			WindowMiB: round(float64(t.sinceCompact.Load()+t.keptBefore.Load()) / (1 << 20)),
		}
		for _, pid := range t.s.processes() {
			if rss, anon, err := figures.Memory(pid); err == nil { // else it ended meanwhile
				s.RSSMiB, s.AnonMiB = round(s.RSSMiB+rss), round(s.AnonMiB+anon)
			}
		}
		t.mu.Lock()
		t.largest = max(t.largest, s.FileMiB)
		t.mu.Unlock()
		return t.r.print(s)
	})
}

// every calls do until ctx ends.
func (t *traffic) every(ctx context.Context, pause time.Duration, do func() error) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := do(); err != nil && ctx.Err() == nil {
				t.fail(err)
			}
		}
	}
}

// size is what a folder's files take on the disk, in MiB.
func size(dir string) float64 {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it went meanwhile
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0
	}
	return float64(sum) / (1 << 20)
}
