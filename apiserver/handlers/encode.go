package handlers

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/store"
)

// statusKind is v1 Status.
var statusKind = schema.GroupVersionKind{Version: "v1", Kind: "Status"}

// gzipAbove is the size of an answer at which compressing it pays.
const gzipAbove = 128 << 10

// body is the encoding of obj alone, without kind and apiVersion: what stands
// in a list of built-in objects, and what is kept with the watch cache's items.
func body(format string, obj runtime.Object) ([]byte, error) {
	if format == formatProto {
		pm, ok := obj.(store.ProtoMessage)
		if !ok {
			return nil, notAcceptable()
		}
		b := make([]byte, pm.Size())
		n, err := pm.MarshalToSizedBuffer(b)
		if err != nil {
			return nil, err
		}
		return b[len(b)-n:], nil
	}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return json.Marshal(u.Object)
	}
	return json.Marshal(obj)
}

// typed puts kind and apiVersion to a body. An unstructured object has its own.
func typed(format string, gvk schema.GroupVersionKind, b []byte, hasType bool) []byte {
	if format == formatProto {
		return protoEnvelope(gvk, b)
	}
	if hasType {
		return b
	}
	return store.PrefixTypeMeta(gvk, b)
}

func protoEnvelope(gvk schema.GroupVersionKind, raw []byte) []byte {
	out := appendField(store.ProtoHeader(gvk), 2, len(raw))
	out = append(out, raw...)
	return append(out, protoEnd...)
}

// protoEnd ends an envelope: no content encoding, no content type.
var protoEnd = []byte{3<<3 | 2, 0, 4<<3 | 2, 0}

func appendUvarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// encodeObject is the whole answer for one object. obj is not changed.
func encodeObject(w *wire, gvk schema.GroupVersionKind, obj runtime.Object) ([]byte, error) {
	format := w.format
	if format == formatCBOR || format == formatYAML {
		format = formatJSON
	}
	b, err := body(format, obj)
	if err != nil {
		return nil, err
	}
	return finishJSON(w, typed(format, gvk, b, hasType(obj)))
}

func hasType(obj runtime.Object) bool {
	_, ok := obj.(*unstructured.Unstructured)
	return ok || obj.GetObjectKind().GroupVersionKind().Kind != ""
}

// finishJSON turns JSON into the format that is asked for; protobuf passes.
func finishJSON(w *wire, b []byte) ([]byte, error) {
	switch w.format {
	case formatYAML:
		return yaml.JSONToYAML(b)
	case formatCBOR:
		var v any
		if err := unmarshalPreserving(b, &v); err != nil {
			return nil, err
		}
		return cbordirect.Marshal(v)
	case formatJSON:
		if w.pretty {
			var out bytes.Buffer
			if err := json.Indent(&out, b, "", "  "); err != nil {
				return nil, err
			}
			b = out.Bytes()
		}
		return append(b, '\n'), nil
	}
	return b, nil
}

// version gives a stored object in the target's version.
func (t *Target) version(hub runtime.Object) (runtime.Object, error) {
	if t.Version.FromHub == nil {
		return hub, nil
	}
	return t.Version.FromHub(hub)
}

// encodingKey names an encoding that is kept with an item. The group is part of
// it: events are stored once and served by two.
type encodingKey struct{ format, group, version, as string }

func (t *Target) encodingKey(format, as string) encodingKey {
	return encodingKey{format: format, group: t.Resource.Group, version: t.Version.Name, as: as}
}

// itemBody is the encoding of an item in the target's version, without type.
func (t *Target) itemBody(format, as string, it *store.Item) ([]byte, bool, error) {
	if n, ok := t.storedProto(format, as, it); ok {
		return it.AppendProto(make([]byte, 0, n)), false, nil
	}
	warm, err := it.Warm()
	if err != nil {
		return nil, false, err
	}
	_, untyped := warm.Object.(*unstructured.Unstructured)
	if d := t.Resource.Strategy.Decorate; d != nil && as == "" {
		own, err := it.Copy()
		if err != nil {
			return nil, false, err
		}
		d(own)
		obj, err := t.version(own)
		if err != nil {
			return nil, false, err
		}
		b, err := body(format, obj)
		return b, untyped, err
	}
	b, err := warm.Encoded(t.encodingKey(format, as), func(hub runtime.Object) ([]byte, error) {
		if as != "" {
			return body(format, partialOf(hub))
		}
		obj, err := t.versionOf(it, hub)
		if err != nil {
			return nil, err
		}
		if obj != hub && !untyped {
			obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
		}
		return body(format, obj)
	})
	return b, untyped && as == "", err
}

// storedProto tells whether the item's protobuf form in the target's version is
// what is stored, and its size.
func (t *Target) storedProto(format, as string, it *store.Item) (int, bool) {
	if format != formatProto || as != "" || t.Version.FromHub != nil || t.Resource.Strategy.Decorate != nil {
		return 0, false
	}
	return it.ProtoSize()
}

// wireFormat is the format that bodies are kept in for a wire: what is neither
// JSON nor protobuf is made from JSON.
func (w *wire) wireFormat() string {
	if w.format == formatProto {
		return formatProto
	}
	return formatJSON
}

// encodeItem is the whole answer for one stored object.
func (t *Target) encodeItem(w *wire, it *store.Item, include string) ([]byte, error) {
	switch {
	case w.as == "Table":
		return t.encodeTable(w, []*store.Item{it}, metav1.ListMeta{ResourceVersion: strconv.FormatInt(it.Rev, 10)}, include)
	case w.partial():
		b, _, err := t.itemBody(w.wireFormat(), "PartialObjectMetadata", it)
		if err != nil {
			return nil, err
		}
		return finishJSON(w, typed(w.wireFormat(), partialKind(w, "PartialObjectMetadata"), b, false))
	}
	b, has, err := t.itemBody(w.wireFormat(), "", it)
	if err != nil {
		return nil, err
	}
	return finishJSON(w, typed(w.wireFormat(), t.GVK(), b, has))
}

func partialKind(w *wire, kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: metav1.GroupName, Version: w.asVersion, Kind: kind}
}

func partialOf(obj runtime.Object) *metav1.PartialObjectMetadata {
	m, err := metaOf(obj)
	if err != nil {
		return &metav1.PartialObjectMetadata{}
	}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		p := &metav1.PartialObjectMetadata{}
		if fields, ok := u.Object["metadata"].(map[string]any); ok {
			// A stored object's metadata has been decoded before: it converts.
			_ = runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &p.ObjectMeta)
		}
		return p
	}
	om, ok := m.(*metav1.ObjectMeta)
	if !ok {
		om = objectMeta(m)
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: *om}
}

// WriteObject answers with an object of the target's kind; obj is of the hub
// type and is not kept.
func (a *API) WriteObject(w http.ResponseWriter, r *http.Request, t *Target, code int, hub runtime.Object) {
	obj, err := t.version(hub)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	a.WriteKind(w, r, code, t.GVK(), obj)
}

// WriteKind answers with an object of any kind.
func (a *API) WriteKind(w http.ResponseWriter, r *http.Request, code int, gvk schema.GroupVersionKind, obj runtime.Object) {
	wi, err := negotiate(r, false)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	b, err := encodeObject(&wi, gvk, obj)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	writeBody(w, r, &wi, code, b)
}

// writeItem answers with a stored object.
func (a *API) writeItem(w http.ResponseWriter, r *http.Request, t *Target, code int, it *store.Item) {
	wi, err := t.negotiate(r)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	b, err := t.encodeItem(&wi, it, r.URL.Query().Get("includeObject"))
	if err != nil {
		a.WriteError(w, r, fmt.Errorf("encode %s %q: %w", t.GR(), t.Name, err))
		return
	}
	writeBody(w, r, &wi, code, b)
}

var gzipWriters = sync.Pool{New: func() any {
	// Level 1: the link is mostly local, and the processor is not free.
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is valid
	return w
}}

func writeBody(w http.ResponseWriter, r *http.Request, wi *wire, code int, b []byte) {
	h := w.Header()
	h.Set("Content-Type", wi.contentType())
	h.Set("Cache-Control", "no-cache, private")
	h.Add("Vary", "Accept")
	if len(b) > gzipAbove && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		w.WriteHeader(code)
		z := gzipWriters.Get().(*gzip.Writer)
		z.Reset(w)
		_, err := z.Write(b)
		if err == nil {
			_ = z.Close() // the client is gone when this fails
		}
		gzipWriters.Put(z)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client is gone when this fails
}

func gvkOf(apiVersion, kind string) schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(apiVersion, kind)
}

// WriteDocument answers with a document of the server's own (discovery). The
// media type's parameters are written as given; the Accept header's are ignored.
func WriteDocument(w http.ResponseWriter, r *http.Request, gvk schema.GroupVersionKind, obj runtime.Object, params string) {
	wi := wire{format: formatJSON}
	for _, clause := range strings.Split(r.Header.Get("Accept"), ",") {
		media, _, _ := strings.Cut(strings.TrimSpace(clause), ";")
		if media == formatJSON || media == formatYAML || media == formatProto || media == formatCBOR {
			wi.format = media
			break
		}
	}
	b, err := encodeObject(&wi, gvk, obj)
	if err != nil {
		WriteError(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", wi.format+params)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(b) // the client is gone when this fails
}
