package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"skiff/apiserver/resources"
	"skiff/kine/kinetest"
	"skiff/kine/sqlite"
)

func configMaps() *resources.Resource {
	r := resources.Declare(resources.Spec[corev1.ConfigMap, *corev1.ConfigMap]{Resource: resources.Resource{
		Kind: "ConfigMap", Plural: "configmaps", Namespaced: true, Hub: "v1",
		Versions: []resources.Version{resources.HubVersion[corev1.ConfigMap]("v1", resources.Empty[corev1.ConfigMapList], func(c *corev1.ConfigMap) {
			if c.Immutable == nil {
				no := false
				c.Immutable = &no
			}
		})},
	}})
	return &r
}

func newStore(t *testing.T, edit func(*Config)) (*Store, *sqlite.Store) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	k, err := sqlite.New(sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db"), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, k)
	c := Config{Kine: k, Feed: NewFeed(k, quiet), Resource: configMaps()}
	if edit != nil {
		edit(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Feed.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("feed: %v", err)
		}
	})
	return s, k
}

func object(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string]string{"v": value}}
}

func set(value string) Mutate {
	return func(_ context.Context, cur runtime.Object) (runtime.Object, error) {
		cm := cur.(*corev1.ConfigMap)
		cm.Data = map[string]string{"v": value}
		return cm, nil
	}
}

// What is answered from stored bytes is what encoding the object gives.
func TestProtoWithoutDecoding(t *testing.T) {
	s, k := newStore(t, nil)
	no := false
	complete := object("a", "1")
	complete.Immutable = &no
	it, err := s.Create(t.Context(), "ns", "a", complete)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := it.ProtoSize()
	b := it.AppendProto(nil)
	var got corev1.ConfigMap
	if err := got.Unmarshal(b); err != nil || !ok || n != len(b) {
		t.Fatalf("ok %v, size %d of %d (%v)", ok, n, len(b), err)
	}
	want, err := it.Copy()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, runtime.Object(&got)); d != "" || got.ResourceVersion != strconv.FormatInt(it.Rev, 10) {
		t.Error(d)
	}
	// Bytes that lack a default are not answered as they are.
	raw, err := s.codec.Encode(object("b", "1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Create(t.Context(), s.Key("ns", "b"), raw, 0); err != nil {
		t.Fatal(err)
	}
	it, err = s.Get(t.Context(), "ns", "b", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := it.ProtoSize(); ok {
		t.Error("an object without its defaults passes as complete")
	}
	if cur, err := it.Object(); err != nil || cur.(*corev1.ConfigMap).Immutable == nil {
		t.Errorf("object %v (%v)", cur, err)
	}
}

// Clients that list and watch end equal to a list, whatever happens on the way:
// compaction, a cache that is dropped, errors.
//
// Covers: api.informers
func TestWatchersEndEqualToLists(t *testing.T) {
	s, k := newStore(t, nil)
	ctx := t.Context()
	const clients, writes, names = 4, 400, 15
	states := make([]map[string]string, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { states[i] = follow(t, s, i) })
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range writes {
		name, value := fmt.Sprintf("n%d", rnd.IntN(names)), strconv.Itoa(i)
		var err error
		switch rnd.IntN(3) {
		case 0:
			_, err = s.Create(ctx, "ns", name, object(name, value))
		case 1:
			_, _, err = s.Update(ctx, "ns", name, false, set(value))
		case 2:
			_, err = s.Delete(ctx, "ns", name, Preconditions{})
		}
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("write %d: %v", i, err)
		}
		switch {
		case i%50 == 49:
			rev, err := k.Revision(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := k.Compact(ctx, rev); err != nil {
				t.Fatal(err)
			}
		case i%70 == 69:
			s.feed.reset()
		}
	}
	if _, err := s.Create(ctx, "ns", last, object(last, "")); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	l, err := s.List(ctx, ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	record(t, want, l.Items)
	for i, got := range states {
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("client %d: %s", i, d)
		}
	}
}

// last is the object after whose creation clients stop.
const last = "zz-last"

func record(t *testing.T, state map[string]string, items []*Item) {
	for _, it := range items {
		obj, err := it.Object()
		if err != nil {
			t.Error(err)
			return
		}
		state[obj.(*corev1.ConfigMap).Name] = obj.(*corev1.ConfigMap).Data["v"] + "@" + obj.(*corev1.ConfigMap).ResourceVersion
	}
}

// follow lists and watches like an informer, in one of two ways.
func follow(t *testing.T, s *Store, i int) map[string]string {
	for {
		state := map[string]string{}
		o := WatchOptions{}
		if i%2 == 0 {
			l, err := s.List(t.Context(), ListOptions{ResourceVersion: "0"})
			if err != nil {
				if t.Context().Err() != nil {
					return nil
				}
				continue
			}
			record(t, state, l.Items)
			o.ResourceVersion = strconv.FormatInt(l.Revision, 10)
		}
		if _, done := state[last]; done {
			return state
		}
		w, err := s.Watch(t.Context(), o)
		if err != nil {
			if t.Context().Err() != nil {
				return nil
			}
			continue
		}
		done := tail(t, w, state)
		w.Close()
		if done || t.Context().Err() != nil {
			return state
		}
	}
}

func tail(t *testing.T, w *Watch, state map[string]string) (done bool) {
	items, _, _ := w.Initial()
	record(t, state, items)
	for {
		if _, ok := state[last]; ok {
			return true
		}
		b, err := w.Next(t.Context())
		if err != nil {
			return false
		}
		for _, c := range b.Changes {
			if c.Type == watch.Deleted {
				_, name := w.s.splitKey(c.Item.Key)
				delete(state, name)
				continue
			}
			record(t, state, []*Item{c.Item})
		}
	}
}

func TestObjectsWithTTLHangOnFewLeases(t *testing.T) {
	s, k := newStore(t, func(c *Config) { c.TTL = 100 })
	for i := range 5 {
		name := fmt.Sprint("e", i)
		if _, err := s.Create(t.Context(), "ns", name, object(name, "")); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := k.Leases(t.Context())
	if err != nil || len(ids) != 1 {
		t.Fatalf("leases %v (%v)", ids, err)
	}
	l, err := k.TimeToLive(t.Context(), ids[0], true)
	if err != nil || len(l.Keys) != 5 || l.TTL < 100 {
		t.Fatalf("lease %+v (%v)", l, err)
	}
	w, err := s.Watch(t.Context(), WatchOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := k.Revoke(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	for deleted := 0; deleted < 5; {
		b, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range b.Changes {
			if c.Type == watch.Deleted {
				deleted++
			}
		}
	}
}

func TestSlowWatcherIsTold(t *testing.T) {
	s, _ := newStore(t, nil)
	w, err := s.Watch(t.Context(), WatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	it := s.newItem(s.Key("ns", "a"), 5, nil)
	for range maxQueuedEvents + 1 {
		w.q.push(Change{Type: watch.Added, Item: it})
	}
	if _, err := w.Next(t.Context()); !apierrors.IsResourceExpired(err) {
		t.Errorf("error %v, want Expired", err)
	}
}

func TestMutateErrorsAreKept(t *testing.T) {
	s, _ := newStore(t, nil)
	if _, err := s.Create(t.Context(), "ns", "a", object("a", "1")); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	tries := 0
	_, _, err := s.Update(t.Context(), "ns", "a", false, func(context.Context, runtime.Object) (runtime.Object, error) {
		tries++
		return nil, refused
	})
	if !errors.Is(err, refused) || tries > 2 {
		t.Errorf("error %v after %d tries", err, tries)
	}
}

func TestContinueTokens(t *testing.T) {
	token := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, tc := range []struct {
		name, token string
		key         string
		rev         int64
		fails       bool
	}{
		{"upstream's", token(`{"v":"meta.k8s.io/v1","rv":5,"start":"ns/a\u0000"}`), "/registry/configmaps/ns/a\x00", 5, false},
		{"inconsistent", token(`{"v":"meta.k8s.io/v1","rv":-1,"start":"ns/a"}`), "/registry/configmaps/ns/a", -1, false},
		{"leaves the prefix", token(`{"v":"meta.k8s.io/v1","rv":5,"start":"../secrets/"}`), "", 0, true},
		{"absolute", token(`{"v":"meta.k8s.io/v1","rv":5,"start":"/registry/secrets/"}`), "", 0, true},
		{"no version", token(`{"rv":5,"start":"a"}`), "", 0, true},
		{"no revision", token(`{"v":"meta.k8s.io/v1","start":"a"}`), "", 0, true},
		{"no JSON", token(`x`), "", 0, true},
		{"no base64", "%", "", 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key, rev, err := decodeContinue(tc.token, "/registry/configmaps/")
			if key != tc.key || rev != tc.rev || (err != nil) != tc.fails {
				t.Errorf("key %q, revision %d, error %v", key, rev, err)
			}
		})
	}
}

func TestWatchByIndexedField(t *testing.T) {
	var x watcherIndex
	q := &queue{pred: Predicate{Fields: fields.OneTermEqualSelector(indexField, "n1")}, wake: make(chan struct{}, 1)}
	s, _ := newStore(t, nil)
	x.add(q)
	item := func(rev int64, node string) *Item {
		return &Item{Key: s.Key("ns", "p"), Rev: rev, fields: fields.Set{indexField: node}, codec: s.codec}
	}
	x.deliver(s, &event{rev: 1, cur: item(1, "n2")})
	x.deliver(s, &event{rev: 2, prev: item(1, "n2"), cur: item(2, "n1")})
	x.deliver(s, &event{rev: 3, prev: item(2, "n1"), cur: item(3, "n2")})
	changes, _ := q.take(nil)
	var got []watch.EventType
	for _, c := range changes {
		got = append(got, c.Type)
	}
	if d := cmp.Diff([]watch.EventType{watch.Added, watch.Deleted}, got); d != "" {
		t.Error(d)
	}
	x.remove(q)
	if x.n != 0 || len(x.byValue) != 0 {
		t.Errorf("index %+v after the last watcher left", x)
	}
}
