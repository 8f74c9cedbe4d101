package store

import (
	"strings"
	"sync"
	"weak"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// Item is one object at one revision: its stored bytes and what selectors look
// at. Items are immutable and shared by every reader and watcher. The decoded
// object and the encodings sent to clients hang on it weakly: they are made once
// for all who want them at the time, and go with the next garbage collection.
type Item struct {
	Key string
	// Rev is the resourceVersion: the revision of the write, or for a deleted
	// object of the delete.
	Rev int64
	Raw []byte

	labels labels.Set
	fields fields.Set
	codec  *Codec

	mu   sync.Mutex
	warm weak.Pointer[Warm]
}

// Warm is the decoded form of an Item with the encodings made of it.
type Warm struct {
	// Object is shared: it must not be changed.
	Object runtime.Object

	mu        sync.Mutex
	encodings map[any][]byte
}

// Encoded returns the encoding under key, made by encode the first time.
func (w *Warm) Encoded(key any, encode func(runtime.Object) ([]byte, error)) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b, ok := w.encodings[key]; ok {
		return b, nil
	}
	b, err := encode(w.Object)
	if err != nil {
		return nil, err
	}
	if w.encodings == nil {
		w.encodings = map[any][]byte{}
	}
	w.encodings[key] = b
	return b, nil
}

// Warm gives the decoded form. It stays shared for as long as somebody holds it.
func (it *Item) Warm() (*Warm, error) {
	it.mu.Lock()
	defer it.mu.Unlock()
	if w := it.warm.Value(); w != nil {
		return w, nil
	}
	obj, err := it.codec.Decode(it.Raw, it.Rev)
	if err != nil {
		return nil, err
	}
	w := &Warm{Object: obj}
	it.warm = weak.Make(w)
	return w, nil
}

// Object is the shared decoded object, which must not be changed.
func (it *Item) Object() (runtime.Object, error) {
	w, err := it.Warm()
	if err != nil {
		return nil, err
	}
	return w.Object, nil
}

// Copy decodes an object for the caller alone.
func (it *Item) Copy() (runtime.Object, error) { return it.codec.Decode(it.Raw, it.Rev) }

// Labels and Fields are what selectors match.
func (it *Item) Labels() labels.Set { return it.labels }

// Fields are the selectable fields.
func (it *Item) Fields() fields.Set { return it.fields }

// newItem decodes once to learn labels and fields. An object that cannot be
// decoded still becomes an item, so that one bad value does not hide the rest:
// reading it gives the error.
func (s *Store) newItem(key string, rev int64, raw []byte) *Item {
	it := &Item{Key: key, Rev: rev, Raw: raw, codec: s.codec}
	w, err := it.Warm()
	if err != nil {
		ns, name := s.splitKey(key)
		it.fields = fields.Set{"metadata.name": name, "metadata.namespace": ns}
		return it
	}
	m, err := meta.Accessor(w.Object)
	if err != nil {
		return it
	}
	it.labels = m.GetLabels()
	if len(s.res.SelectableFields) > 0 {
		it.fields = s.res.Fields(w.Object, m)
	}
	return it
}

// at is the same object under another revision: what a delete event shows.
func (it *Item) at(rev int64) *Item {
	return &Item{Key: it.Key, Rev: rev, Raw: it.Raw, labels: it.labels, fields: it.fields, codec: it.codec}
}

// field reads a selectable field; names are read off the key.
func (s *Store) field(it *Item, name string) string {
	switch name {
	case "metadata.name":
		return it.Key[strings.LastIndexByte(it.Key, '/')+1:]
	case "metadata.namespace":
		ns, _ := s.splitKey(it.Key)
		return ns
	}
	return it.fields[name]
}
