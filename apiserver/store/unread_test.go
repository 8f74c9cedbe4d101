package store

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// locked is a transformer whose key service may be away.
type locked struct {
	away atomic.Bool
	// old: values are of a key that is no longer the first.
	old atomic.Bool
}

func (*locked) ToStorage(_ context.Context, _ string, plain []byte) ([]byte, error) {
	return append([]byte("sealed:"), plain...), nil
}

func (l *locked) FromStorage(_ context.Context, _ string, stored []byte) ([]byte, bool, error) {
	if l.away.Load() {
		return nil, false, errors.New("the key service does not answer")
	}
	return bytes.TrimPrefix(stored, []byte("sealed:")), l.old.Load(), nil
}

// Writing all objects anew encrypts them with the key that is the first by now, also
// those that the cache met under another.
//
// Covers: api.encryption
func TestUnchangedValuesAreWrittenWithANewKey(t *testing.T) {
	keys := &locked{}
	s, _ := newStore(t, func(c *Config) { c.Transformer = keys })
	if _, err := s.Create(t.Context(), "ns", "a", object("a", "1")); err != nil {
		t.Fatal(err)
	}
	rewrite := func() int64 {
		t.Helper()
		it, _, err := s.Update(t.Context(), "ns", "a", false, set("1"))
		if err != nil {
			t.Fatal(err)
		}
		return it.Rev
	}
	first := rewrite() // with its defaults
	if rev := rewrite(); rev != first {
		t.Errorf("revision %d, want %d: nothing changed", rev, first)
	}
	if _, err := s.Get(t.Context(), "ns", "a", ""); err != nil { // so that the cache has met it
		t.Fatal(err)
	}
	keys.old.Store(true)
	if rev := rewrite(); rev <= first {
		t.Errorf("revision %d: the value is still encrypted with the key before", rev)
	}
}

// Values that were met while their key service was away are read once it is back, and
// until then no list passes over them.
//
// Covers: api.encryption
func TestValuesAreReadWhenTheirKeyIsBack(t *testing.T) {
	keys := &locked{}
	keys.away.Store(true)
	s, k := newStore(t, func(c *Config) { c.Transformer = keys })
	put := func(name string) {
		t.Helper()
		o := object(name, name)
		o.Labels = map[string]string{"app": name}
		raw, err := s.codec.Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Create(t.Context(), s.Key("ns", name), append([]byte("sealed:"), raw...), 0); err != nil {
			t.Fatal(err)
		}
	}
	// read is how many objects of a selector there are, and whether they are readable.
	read := func(selector string) (n int, err error) {
		t.Helper()
		sel, err := labels.Parse(selector)
		if err != nil {
			t.Fatal(err)
		}
		list, err := s.List(t.Context(), ListOptions{Predicate: Predicate{Namespace: "ns", Labels: sel}})
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range list.Items {
			if _, e := it.Object(); e != nil {
				err = e
			}
			n++
		}
		return n, err
	}
	put("loaded")
	if n, err := read("app=other"); n != 1 || err == nil {
		t.Errorf("%d objects, %v: the list passes over what cannot be read", n, err)
	}
	put("told")
	if n, err := read(""); n != 2 || err == nil {
		t.Errorf("%d objects, %v", n, err)
	}
	keys.away.Store(false)
	s.cache.mu.Lock()
	s.cache.tried = time.Time{} // as if it were long ago
	s.cache.mu.Unlock()
	for selector, want := range map[string]int{"": 2, "app=told": 1, "app=other": 0} {
		if n, err := read(selector); n != want || err != nil {
			t.Errorf("%q: %d objects, %v: want %d", selector, n, err, want)
		}
	}
	it, err := s.Get(t.Context(), "ns", "told", "")
	if err != nil {
		t.Fatal(err)
	}
	if o, err := it.Object(); err != nil || o.(*corev1.ConfigMap).Data["v"] != "told" {
		t.Errorf("object %v, %v", o, err)
	}
	if s.cache.unread {
		t.Error("the cache still looks for what it has read")
	}
}
