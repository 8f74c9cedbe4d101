package store

import (
	"strconv"
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
	// stale: the transformer wants the value written anew.
	stale bool
	// unread is why Raw is still as it was stored, and cannot be read yet.
	unread error
	// proto is the part of Raw that is the object's protobuf form but for its
	// resourceVersion; nil where Raw is none, or lacks defaults.
	proto []byte

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

// Cached is the encoding under key, if it was made.
func (w *Warm) Cached(key any) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b, ok := w.encodings[key]
	return b, ok
}

// Keep remembers an encoding.
func (w *Warm) Keep(key any, b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.encodings == nil {
		w.encodings = map[any][]byte{}
	}
	w.encodings[key] = b
}

// Warm gives the decoded form. It stays shared for as long as somebody holds it.
func (it *Item) Warm() (*Warm, error) {
	it.mu.Lock()
	defer it.mu.Unlock()
	if w := it.warm.Value(); w != nil {
		return w, nil
	}
	obj, err := it.Copy()
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
func (it *Item) Copy() (runtime.Object, error) {
	if it.unread != nil {
		return nil, it.unread
	}
	return it.codec.Decode(it.Raw, it.Rev)
}

// Labels and Fields are what selectors match.
func (it *Item) Labels() labels.Set { return it.labels }

// Fields are the selectable fields.
func (it *Item) Fields() fields.Set { return it.fields }

// newItem decodes once to learn labels and fields. An object that cannot be
// decoded still becomes an item, so that one bad value does not hide the rest:
// reading it gives the error.
func (s *Store) newItem(key string, rev int64, raw []byte) *Item {
	it := &Item{Key: key, Rev: rev, Raw: raw, codec: s.codec}
	obj, err := s.codec.decode(raw)
	if err != nil {
		ns, name := s.splitKey(key)
		it.fields = fields.Set{"metadata.name": name, "metadata.namespace": ns}
		return it
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return it
	}
	// Defaults only add: bytes of the same size are the same object.
	if body := s.codec.hubBody(raw); body != nil && obj.(ProtoMessage).Size() == len(body) {
		it.proto = body
	}
	setRevision(m, rev)
	it.warm = weak.Make(&Warm{Object: obj})
	it.labels = m.GetLabels()
	if len(s.res.SelectableFields) > 0 {
		it.fields = s.res.Fields(obj, m)
	}
	return it
}

// The tags of metadata, the first field of every kind, and in it of
// resourceVersion.
const (
	metadataTag        = 1<<3 | 2
	resourceVersionTag = 6<<3 | 2
)

// ProtoSize is the size of what AppendProto appends; ok is false when the item
// has to be decoded for its protobuf form.
func (it *Item) ProtoSize() (size int, ok bool) {
	if it.proto == nil || it.Rev <= 0 {
		return 0, false
	}
	digits := 1
	for n := it.Rev; n >= 10; n /= 10 {
		digits++
	}
	return len(it.proto) + 4 + digits, true
}

// AppendProto appends the object's protobuf form, without decoding it: what is
// stored, and behind it the resourceVersion as one more piece of the metadata.
// The pieces of a message field are one message, by protobuf's rules.
func (it *Item) AppendProto(buf []byte) []byte {
	var digits [20]byte
	rev := strconv.AppendInt(digits[:0], it.Rev, 10)
	buf = append(buf, it.proto...)
	buf = append(buf, metadataTag, byte(2+len(rev)), resourceVersionTag, byte(len(rev)))
	return append(buf, rev...)
}

// at is the same object under another revision: what a delete event shows.
func (it *Item) at(rev int64) *Item {
	return &Item{Key: it.Key, Rev: rev, Raw: it.Raw, labels: it.labels, fields: it.fields, codec: it.codec, proto: it.proto, unread: it.unread}
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
