package handlers

import (
	"bufio"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver/request"
	"skiff/apiserver/store"
)

func (a *API) list(w http.ResponseWriter, r *http.Request, t *Target, _ *request.Info) {
	wi, err := t.negotiate(r)
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
	if t, err = t.convertAll(&wi, l.Items, r.URL.Query().Get("includeObject")); err != nil {
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
	if wi.format == formatProto {
		a.streamProto(w, r, t, &wi, l, meta)
		return
	}
	a.streamList(w, r, t, &wi, l, meta)
}

// listKind is the list's type, and what its items are encoded as.
func (t *Target) listKind(w *wire) (apiVersion, kind, as string) {
	if w.partial() {
		return metav1.GroupName + "/" + w.asVersion, "PartialObjectMetadataList", "PartialObjectMetadata"
	}
	gvk := t.GVK()
	return gvk.GroupVersion().String(), t.Resource.ListKind, ""
}

// streamList writes a list item by item: a large list is never in memory as a
// whole beside the items' own encodings.
func (a *API) streamList(w http.ResponseWriter, r *http.Request, t *Target, wi *wire, l *store.List, meta metav1.ListMeta) {
	apiVersion, kind, as := t.listKind(wi)
	form, err := wi.form(listHead{kind, apiVersion, meta}, len(l.Items))
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	item := func(it *store.Item) ([]byte, error) {
		doc, has, err := t.itemBody(formatJSON, as, it)
		if err != nil {
			return nil, err
		}
		if as != "" {
			doc = typed(formatJSON, partialKind(wi, as), doc, has)
		}
		return form.item(doc)
	}
	// The first item is encoded before the header goes out, so that a common
	// failure still has its status code.
	var first []byte
	if len(l.Items) > 0 {
		if first, err = item(l.Items[0]); err != nil {
			a.WriteError(w, r, err)
			return
		}
	}
	b, end := stream(w, r, wi, len(l.Items)*len(first), 0)
	defer end()
	_, _ = b.Write(form.open) // bufio keeps the error for Flush
	for i, it := range l.Items {
		doc := first
		if i > 0 {
			_, _ = b.Write(form.between)
			if doc, err = item(it); err != nil {
				// The status code has gone out: a cut answer is an error for the client.
				a.cfg.Log.Error("object of a list cannot be encoded", "key", it.Key, "err", err)
				panic(http.ErrAbortHandler)
			}
		}
		_, _ = b.Write(doc)
	}
	_, _ = b.Write(form.end)
}

// stream begins an answer that is written in pieces: compressed when it is about
// to be large, else with its length when that is known. end flushes.
func stream(w http.ResponseWriter, r *http.Request, wi *wire, estimate, length int) (b *bufio.Writer, end func()) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, private")
	h.Add("Vary", "Accept")
	return Stream(w, r, wi.contentType(), estimate, length)
}

// Stream begins an answer that is written in pieces, as stream does.
func Stream(w http.ResponseWriter, r *http.Request, contentType string, estimate, length int) (b *bufio.Writer, end func()) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	if estimate > gzipAbove && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		z := gzipWriters.Get().(*gzip.Writer)
		z.Reset(w)
		w.WriteHeader(http.StatusOK)
		b = bufio.NewWriterSize(z, 32<<10)
		return b, func() {
			_ = b.Flush() // the client is gone when these fail
			_ = z.Close()
			gzipWriters.Put(z)
		}
	}
	if length > 0 {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	w.WriteHeader(http.StatusOK)
	b = bufio.NewWriterSize(w, 32<<10)
	return b, func() { _ = b.Flush() } // the client is gone when this fails
}

// streamProto writes a protobuf list item by item. Every list message has its
// metadata as field 1 and its items as field 2.
func (a *API) streamProto(w http.ResponseWriter, r *http.Request, t *Target, wi *wire, l *store.List, meta metav1.ListMeta) {
	apiVersion, kind, as := t.listKind(wi)
	lm, err := meta.Marshal()
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	raw := fieldSize(len(lm))
	// What is not in its final form in the store is encoded first: the message
	// begins with its length.
	encoded := map[int][]byte{}
	for i, it := range l.Items {
		n, ok := t.storedProto(formatProto, as, it)
		if !ok {
			b, _, err := t.itemBody(formatProto, as, it)
			if err != nil {
				a.WriteError(w, r, err)
				return
			}
			encoded[i], n = b, len(b)
		}
		raw += fieldSize(n)
	}
	head := appendField(store.ProtoHeader(gvkOf(apiVersion, kind)), 2, raw)
	head = append(appendField(head, 1, len(lm)), lm...)
	total := len(head) - fieldSize(len(lm)) + raw + len(protoEnd)
	b, end := stream(w, r, wi, total, total)
	defer end()
	_, _ = b.Write(head) // bufio keeps the error for Flush
	var buf []byte
	for i, it := range l.Items {
		if doc, ok := encoded[i]; ok {
			_, _ = b.Write(appendField(buf[:0], 2, len(doc)))
			_, _ = b.Write(doc)
			continue
		}
		n, _ := it.ProtoSize()
		buf = it.AppendProto(appendField(buf[:0], 2, n))
		_, _ = b.Write(buf)
	}
	_, _ = b.Write(protoEnd)
}

// fieldSize is the size of a length-delimited field of n bytes with a small number.
func fieldSize(n int) int {
	size := 2 + n
	for v := n; v >= 0x80; v >>= 7 {
		size++
	}
	return size
}

// appendField begins a length-delimited field of n bytes.
func appendField(b []byte, number byte, n int) []byte {
	return appendUvarint(append(b, number<<3|2), uint64(n))
}
