package handlers

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver/request"
	"skiff/apiserver/store"
)

func (a *API) list(w http.ResponseWriter, r *http.Request, t *Target, _ *request.Info) {
	wi, err := negotiate(r, true)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	o, pred, err := listOptions(r, t)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	l, err := t.Store.List(r.Context(), store.ListOptions{
		Predicate: pred, ResourceVersion: o.ResourceVersion, Match: o.ResourceVersionMatch, Limit: o.Limit, Continue: o.Continue,
	})
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	meta := metav1.ListMeta{ResourceVersion: strconv.FormatInt(l.Revision, 10), Continue: l.Continue, RemainingItemCount: l.Remaining}
	if wi.as == "Table" {
		b, err := t.encodeTable(&wi, l.Items, meta, r.URL.Query().Get("includeObject"))
		if err != nil {
			a.WriteError(w, r, err)
			return
		}
		writeBody(w, r, &wi, http.StatusOK, b)
		return
	}
	if wi.format == formatJSON && !wi.pretty {
		a.streamList(w, r, t, &wi, l, meta)
		return
	}
	b, err := t.encodeList(&wi, l.Items, meta)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	writeBody(w, r, &wi, http.StatusOK, b)
}

// listKind is the list's type, and what its items are encoded as.
func (t *Target) listKind(w *wire) (apiVersion, kind, as string) {
	if w.partial() {
		return metav1.GroupName + "/" + w.asVersion, "PartialObjectMetadataList", "PartialObjectMetadata"
	}
	gvk := t.GVK()
	return gvk.GroupVersion().String(), t.Resource.ListKind, ""
}

// streamList writes a JSON list item by item: a large list is never in memory
// as a whole beside the items' own encodings.
func (a *API) streamList(w http.ResponseWriter, r *http.Request, t *Target, wi *wire, l *store.List, meta metav1.ListMeta) {
	apiVersion, kind, as := t.listKind(wi)
	head, err := json.Marshal(struct {
		Kind       string          `json:"kind"`
		APIVersion string          `json:"apiVersion"`
		Metadata   metav1.ListMeta `json:"metadata"`
	}{kind, apiVersion, meta})
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	// The first item is encoded before the header goes out, so that a common
	// failure still has its status code.
	var first []byte
	var has bool
	if len(l.Items) > 0 {
		if first, has, err = t.itemBody(formatJSON, as, l.Items[0]); err != nil {
			a.WriteError(w, r, err)
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", wi.contentType())
	h.Set("Cache-Control", "no-cache, private")
	h.Add("Vary", "Accept")
	estimate := len(l.Items) * len(first)
	var out interface {
		Write([]byte) (int, error)
	} = w
	if estimate > gzipAbove && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		z := gzipWriters.Get().(*gzip.Writer)
		z.Reset(w)
		defer func() {
			_ = z.Close() // the client is gone when this fails
			gzipWriters.Put(z)
		}()
		out = z
	}
	w.WriteHeader(http.StatusOK)
	b := bufio.NewWriterSize(out, 32<<10)
	defer b.Flush()
	_, _ = b.Write(head[:len(head)-1]) // bufio keeps the error for Flush
	_, _ = b.WriteString(`,"items":[`)
	gvk := t.GVK()
	if as != "" {
		gvk = partialKind(wi, as)
	}
	for i, it := range l.Items {
		doc := first
		if i > 0 {
			_ = b.WriteByte(',')
			if doc, has, err = t.itemBody(formatJSON, as, it); err != nil {
				// The status code has gone out: a cut answer is an error for the client.
				a.cfg.Log.Error("object of a list cannot be encoded", "key", it.Key, "err", err)
				panic(http.ErrAbortHandler)
			}
		}
		if as != "" {
			doc = typed(formatJSON, gvk, doc, has)
		}
		_, _ = b.Write(doc)
	}
	_, _ = b.WriteString("]}\n")
}

// encodeList is a list as a whole.
func (t *Target) encodeList(w *wire, items []*store.Item, meta metav1.ListMeta) ([]byte, error) {
	apiVersion, kind, as := t.listKind(w)
	if w.format == formatProto {
		return t.encodeProtoList(apiVersion, kind, as, items, meta)
	}
	docs := make([]json.RawMessage, 0, len(items))
	for _, it := range items {
		b, has, err := t.itemBody(formatJSON, as, it)
		if err != nil {
			return nil, err
		}
		if as != "" {
			b = typed(formatJSON, partialKind(w, as), b, has)
		}
		docs = append(docs, b)
	}
	b, err := json.Marshal(struct {
		Kind       string            `json:"kind"`
		APIVersion string            `json:"apiVersion"`
		Metadata   metav1.ListMeta   `json:"metadata"`
		Items      []json.RawMessage `json:"items"`
	}{kind, apiVersion, meta, docs})
	if err != nil {
		return nil, err
	}
	return finishJSON(w, b)
}

// encodeProtoList puts encoded items together: every list message has its
// metadata as field 1 and its items as field 2.
func (t *Target) encodeProtoList(apiVersion, kind, as string, items []*store.Item, meta metav1.ListMeta) ([]byte, error) {
	bodies := make([][]byte, len(items))
	lm, err := meta.Marshal()
	if err != nil {
		return nil, err
	}
	size := len(lm) + 8
	for i, it := range items {
		if bodies[i], _, err = t.itemBody(formatProto, as, it); err != nil {
			return nil, err
		}
		size += len(bodies[i]) + 8
	}
	raw := make([]byte, 0, size)
	raw = append(raw, 1<<3|2)
	raw = appendUvarint(raw, uint64(len(lm)))
	raw = append(raw, lm...)
	for _, b := range bodies {
		raw = append(raw, 2<<3|2)
		raw = appendUvarint(raw, uint64(len(b)))
		raw = append(raw, b...)
	}
	return protoEnvelope(gvkOf(apiVersion, kind), raw), nil
}
