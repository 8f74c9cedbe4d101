package handlers

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/watch"

	"skiff/apiserver/request"
	"skiff/apiserver/store"
)

func (a *API) watch(w http.ResponseWriter, r *http.Request, t *Target, info *request.Info) {
	began := time.Now()
	wi, err := t.negotiate(r)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	r.URL.RawQuery = withWatch(r.URL.RawQuery)
	o, pred, err := listOptions(r, t)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	timeout := a.cfg.MinRequestTimeout + time.Duration(rand.Float64()*float64(a.cfg.MinRequestTimeout))
	if o.TimeoutSeconds != nil {
		timeout = time.Duration(*o.TimeoutSeconds) * time.Second
	}
	ctx := r.Context()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	wt, err := t.Store.Watch(ctx, store.WatchOptions{
		Predicate: pred, ResourceVersion: o.ResourceVersion, Match: o.ResourceVersionMatch,
		SendInitial: o.SendInitialEvents, Bookmarks: o.AllowWatchBookmarks,
	})
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	defer wt.Close()
	f := &framer{t: t, wire: wi, include: r.URL.Query().Get("includeObject"), first: true, began: began, watched: a.watched(t, info.Scope())}
	if websocket.IsWebSocketUpgrade(r) {
		a.watchSocket(ctx, w, r, wt, f)
		return
	}
	flusher, ok := w.(http.Flusher)
	if !ok {
		a.WriteError(w, r, errors.New("the connection does not take a stream"))
		return
	}
	w.Header().Set("Content-Type", f.contentType())
	w.Header().Set("Cache-Control", "no-cache, private")
	if r.ProtoMajor == 1 {
		w.Header().Set("Transfer-Encoding", "chunked")
	}
	w.WriteHeader(http.StatusOK)
	flusher.Flush()
	a.pump(ctx, wt, f, newStall(a.cfg.StalledWatch, cutResponse(w)), func(b []byte) error {
		_, err := w.Write(b)
		return err
	}, flusher.Flush)
}

// withWatch marks a query as a watch's, for the rules of its options.
func withWatch(raw string) string {
	if strings.Contains(raw, "watch=") {
		return raw
	}
	if raw == "" {
		return "watch=true"
	}
	return raw + "&watch=true"
}

// pump sends the initial state, then changes until the watch or ctx ends.
func (a *API) pump(ctx context.Context, wt *store.Watch, f *framer, stall *stall, write func([]byte) error, flush func()) {
	defer stall.sent()
	send := func(b []byte, err error) bool {
		if err == nil {
			stall.sending()
			if err = write(b); err == nil {
				f.watched.Sent(len(b))
			}
		} else {
			a.cfg.Log.Error("event of a watch cannot be encoded", "resource", f.t.GR(), "err", err)
		}
		return err == nil
	}
	items, rev, mark := wt.Initial()
	for _, it := range items {
		if !send(f.event(watch.Added, it)) {
			return
		}
	}
	if mark && !send(f.bookmark(rev, true)) {
		return
	}
	if len(items) > 0 || mark {
		flush()
	}
	if mark {
		f.watched.Listed(time.Since(f.began))
	}
	for {
		stall.sent()
		batch, err := wt.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				send(f.status(err))
				flush()
			}
			return
		}
		for _, c := range batch.Changes {
			if !send(f.event(c.Type, c.Item)) {
				return
			}
		}
		if batch.Bookmark != 0 && !send(f.bookmark(batch.Bookmark, false)) {
			return
		}
		flush()
	}
}

// framer makes the wire form of events.
type framer struct {
	t       *Target
	wire    wire
	include string
	first   bool
	began   time.Time
	watched Watched
}

func (f *framer) contentType() string {
	switch f.wire.format {
	case formatProto:
		return formatProto + ";stream=watch"
	case formatCBOR:
		return "application/cbor-seq"
	}
	return formatJSON
}

// frameKey names a whole event that is kept for the other watchers.
type frameKey struct {
	encodingKey
	event watch.EventType
}

// event is one change of one object. It is made once for all who watch in the
// same format.
func (f *framer) event(kind watch.EventType, it *store.Item) ([]byte, error) {
	if f.wire.as == "Table" || f.wire.format != f.wire.wireFormat() || f.t.Resource.Strategy.Decorate != nil {
		return f.makeEvent(kind, it)
	}
	warm, err := it.Warm()
	if err != nil {
		return nil, err
	}
	key := frameKey{f.t.encodingKey(f.wire.format, f.wire.as+f.wire.asVersion), kind}
	if b, ok := warm.Cached(key); ok {
		return b, nil
	}
	b, err := f.makeEvent(kind, it)
	if err == nil {
		warm.Keep(key, b)
	}
	return b, err
}

func (f *framer) makeEvent(kind watch.EventType, it *store.Item) ([]byte, error) {
	doc, err := f.object(it)
	if err != nil {
		return nil, err
	}
	return f.frame(kind, doc)
}

func (f *framer) object(it *store.Item) ([]byte, error) {
	t := f.t
	if f.wire.as == "Table" {
		// Only the first event carries the columns.
		doc, err := t.table(&f.wire, []*store.Item{it}, metav1.ListMeta{ResourceVersion: strconv.FormatInt(it.Rev, 10)}, f.include, f.first)
		if err != nil {
			return nil, err
		}
		f.first = false
		return json.Marshal(doc)
	}
	format := f.wire.wireFormat()
	if f.wire.partial() {
		b, _, err := t.itemBody(format, "PartialObjectMetadata", it)
		if err != nil {
			return nil, err
		}
		return typed(format, partialKind(&f.wire, "PartialObjectMetadata"), b, false), nil
	}
	b, has, err := t.itemBody(format, "", it)
	if err != nil {
		return nil, err
	}
	return typed(format, t.GVK(), b, has), nil
}

// bookmark tells the client up to where it has seen everything.
func (f *framer) bookmark(rev int64, initialEnd bool) ([]byte, error) {
	meta := metav1.ObjectMeta{ResourceVersion: strconv.FormatInt(rev, 10)}
	if initialEnd {
		meta.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	}
	format := f.wire.wireFormat()
	var doc []byte
	switch {
	case f.wire.as == "Table":
		row, err := json.Marshal(metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metav1.GroupName + "/" + f.wire.asVersion}, ObjectMeta: meta})
		if err != nil {
			return nil, err
		}
		columns, _ := f.t.columns()
		cells := make([]any, len(columns))
		doc, err = json.Marshal(tableDoc{Kind: "Table", APIVersion: metav1.GroupName + "/" + f.wire.asVersion,
			Metadata: metav1.ListMeta{ResourceVersion: meta.ResourceVersion}, Rows: []tableRow{{Cells: cells, Object: row}}})
		if err != nil {
			return nil, err
		}
	case f.wire.partial():
		b, err := body(format, &metav1.PartialObjectMetadata{ObjectMeta: meta})
		if err != nil {
			return nil, err
		}
		doc = typed(format, partialKind(&f.wire, "PartialObjectMetadata"), b, false)
	default:
		obj := f.t.Version.New()
		m, err := metaOf(obj)
		if err != nil {
			return nil, err
		}
		m.SetResourceVersion(meta.ResourceVersion)
		if meta.Annotations != nil {
			m.SetAnnotations(meta.Annotations)
		}
		if u, ok := obj.(*unstructured.Unstructured); ok {
			u.SetGroupVersionKind(f.t.GVK())
		}
		b, err := body(format, obj)
		if err != nil {
			return nil, err
		}
		doc = typed(format, f.t.GVK(), b, hasType(obj))
	}
	return f.frame(watch.Bookmark, doc)
}

// status is the event that ends a watch with an error.
func (f *framer) status(err error) ([]byte, error) {
	format := f.wire.wireFormat()
	b, err := body(format, StatusOf(err))
	if err != nil {
		return nil, err
	}
	return f.frame(watch.Error, typed(format, statusKind, b, false))
}

func (f *framer) frame(kind watch.EventType, doc []byte) ([]byte, error) {
	switch f.wire.format {
	case formatProto:
		e := metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: doc}}
		n := e.Size()
		out := make([]byte, 4+n)
		binary.BigEndian.PutUint32(out, uint32(n))
		_, err := e.MarshalToSizedBuffer(out[4:])
		return out, err
	case formatCBOR:
		var v any
		if err := unmarshalPreserving(doc, &v); err != nil {
			return nil, err
		}
		return cbordirect.Marshal(map[string]any{"type": string(kind), "object": v})
	}
	out := make([]byte, 0, len(doc)+len(kind)+24)
	out = append(out, `{"type":"`...)
	out = append(out, kind...)
	out = append(out, `","object":`...)
	out = append(out, doc...)
	return append(out, '}', '\n'), nil
}

// upgrader takes any origin: browsers have no credentials of a cluster.
var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }, HandshakeTimeout: 10 * time.Second}

// watchSocket sends a watch over a WebSocket, one event in each message.
func (a *API) watchSocket(ctx context.Context, w http.ResponseWriter, r *http.Request, wt *store.Watch, f *framer) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn.SetReadLimit(64 << 10)
	go func() {
		// Ends with the connection; what a client sends means nothing.
		defer cancel()
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	}()
	kind := websocket.TextMessage
	if f.wire.format != formatJSON {
		kind = websocket.BinaryMessage
	}
	a.pump(ctx, wt, f, newStall(a.cfg.StalledWatch, cutSocket(conn)), func(b []byte) error { return conn.WriteMessage(kind, b) }, func() {})
}
