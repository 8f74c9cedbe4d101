package handlers_test

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/kine"
)

// open starts a watch.
func (s *server) open(path string, headers ...string) (*http.Response, *bufio.Reader) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp, bufio.NewReader(resp.Body)
}

type wireEvent struct {
	Type   string         `json:"type"`
	Object map[string]any `json:"object"`
}

// String is "ADDED m1", with the annotations of bookmarks.
func (e wireEvent) String() string {
	u := unstructured.Unstructured{Object: e.Object}
	switch e.Type {
	case "BOOKMARK":
		return strings.TrimSpace("BOOKMARK " + u.GetAnnotations()[metav1.InitialEventsAnnotationKey])
	case "ERROR":
		return fmt.Sprintf("ERROR %v", e.Object["reason"])
	}
	return e.Type + " " + u.GetName()
}

func nextEvent(t *testing.T, r *bufio.Reader) wireEvent {
	t.Helper()
	line, err := r.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var e wireEvent
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return e
}

func expectEvents(t *testing.T, r *bufio.Reader, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := nextEvent(t, r).String(); got != w {
			t.Fatalf("event %q, want %q", got, w)
		}
	}
}

// Covers: api.watch, api.watch-initial
func TestWatch(t *testing.T) {
	s := newServer(t)
	rv := s.makeMaps(3)
	patch := func(name, body string) {
		s.must(http.StatusOK, "PATCH", maps+"/"+name, body, "Content-Type", mergePatch)
	}
	for _, tc := range []struct {
		name, query string
		first       []string
		then        []string
	}{
		{"from a version", "resourceVersion=" + rv[0], []string{"ADDED m1", "ADDED m2"}, []string{"MODIFIED m1", "MODIFIED m1", "DELETED m2"}},
		{"any state", "resourceVersion=0", []string{"ADDED m0", "ADDED m1", "ADDED m2"}, []string{"MODIFIED m1", "MODIFIED m1", "DELETED m2"}},
		{"no version", "", []string{"ADDED m0", "ADDED m1", "ADDED m2"}, []string{"MODIFIED m1"}},
		{"list and watch", "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", []string{"ADDED m0", "ADDED m1", "ADDED m2", "BOOKMARK true"}, []string{"MODIFIED m1"}},
		{"from now", "sendInitialEvents=false&resourceVersionMatch=NotOlderThan", nil, []string{"MODIFIED m1", "MODIFIED m1", "DELETED m2"}},
		{"into and out of a selector", "resourceVersion=0&labelSelector=sel%3Dyes", nil, []string{"ADDED m1", "DELETED m1"}},
		{"one name", "resourceVersion=0&fieldSelector=metadata.name%3Dm2", []string{"ADDED m2"}, []string{"DELETED m2"}},
		{"leaves a label", "resourceVersion=0&labelSelector=n%3D2", []string{"ADDED m2"}, []string{"DELETED m2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, r := s.open(maps + "?watch=true&" + tc.query)
			expectEvents(t, r, tc.first...)
			patch("m1", `{"metadata":{"labels":{"sel":"yes"}}}`)
			patch("m1", `{"metadata":{"labels":{"sel":null}}}`)
			s.must(http.StatusOK, "DELETE", maps+"/m2", "")
			expectEvents(t, r, tc.then...)
			s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"m2","labels":{"n":"2"}}}`)
			if strings.HasPrefix(tc.query, "resourceVersion="+rv[0]) {
				return
			}
		})
		// The following cases begin with the same objects.
	}
}

func TestDeletedEventHasTheVersionOfTheDelete(t *testing.T) {
	s := newServer(t)
	rv := s.makeMaps(1)
	_, r := s.open(maps + "?watch=true&resourceVersion=" + rv[0])
	s.must(http.StatusOK, "DELETE", maps+"/m0", "")
	now, err := s.kine.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u := unstructured.Unstructured{Object: nextEvent(t, r).Object}
	if u.GetResourceVersion() != fmt.Sprint(now) {
		t.Errorf("resourceVersion %s, want %d", u.GetResourceVersion(), now)
	}
}

// Covers: api.watch-expired, api.watch
func TestWatchEnds(t *testing.T) {
	s := newServer(t)
	// What was before the cache was filled cannot be watched.
	for range 3 {
		if _, _, err := s.kine.Delete(t.Context(), "/registry/other", 0); err != nil && !errors.Is(err, kine.ErrKeyNotFound) {
			t.Fatal(err)
		}
		if _, err := s.kine.Create(t.Context(), "/registry/other", []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	s.makeMaps(2)
	_, r := s.open(maps + "?watch=true&resourceVersion=0&timeoutSeconds=1")
	expectEvents(t, r, "ADDED m0", "ADDED m1")
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the timeout: %v, want EOF", err)
	}
	st := s.must(http.StatusGone, "GET", maps+"?watch=true&resourceVersion=1", "").status(t)
	if st.Reason != metav1.StatusReasonExpired || !strings.HasPrefix(st.Message, "too old resource version: 1 (") {
		t.Errorf("status %+v", st)
	}
	s.must(http.StatusUnprocessableEntity, "GET", maps+"?watch=true&sendInitialEvents=true", "")
}

func TestWatchAsProtobuf(t *testing.T) {
	s := newServer(t)
	s.makeMaps(1)
	resp, r := s.open(maps+"?watch=true&resourceVersion=0", "Accept", "application/vnd.kubernetes.protobuf;stream=watch")
	if got := resp.Header.Get("Content-Type"); got != "application/vnd.kubernetes.protobuf;stream=watch" {
		t.Errorf("content type %q", got)
	}
	var size uint32
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, size)
	if _, err := io.ReadFull(r, frame); err != nil {
		t.Fatal(err)
	}
	var e metav1.WatchEvent
	if err := e.Unmarshal(frame); err != nil {
		t.Fatal(err)
	}
	var unk runtime.Unknown
	if err := unk.Unmarshal(e.Object.Raw[4:]); err != nil {
		t.Fatal(err)
	}
	var cm corev1.ConfigMap
	if err := cm.Unmarshal(unk.Raw); err != nil {
		t.Fatal(err)
	}
	if e.Type != "ADDED" || unk.Kind != "ConfigMap" || unk.APIVersion != "v1" || cm.Name != "m0" || cm.ResourceVersion == "" {
		t.Errorf("event %s of %s %s %+v", e.Type, unk.APIVersion, unk.Kind, cm.ObjectMeta)
	}
}

// Covers: api.tables
func TestWatchAsTableAndMetadata(t *testing.T) {
	s := newServer(t)
	rv := s.makeMaps(2)
	_, r := s.open(maps+"?watch=true&resourceVersion="+rv[0], "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	s.must(http.StatusOK, "DELETE", maps+"/m1", "")
	var columns []int
	for range 2 {
		e := nextEvent(t, r)
		defs, _, _ := unstructured.NestedSlice(e.Object, "columnDefinitions")
		columns = append(columns, len(defs))
	}
	if d := cmp.Diff([]int{3, 0}, columns); d != "" {
		t.Errorf("columns of the events: %s", d)
	}
	_, r = s.open(maps+"?watch=true&resourceVersion="+rv[0], "Accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
	if e := nextEvent(t, r); e.Object["kind"] != "PartialObjectMetadata" || e.String() != "ADDED m1" {
		t.Errorf("event %v", e)
	}
}

// Covers: api.watch
func TestWatchOverWebSocket(t *testing.T) {
	s := newServer(t)
	s.makeMaps(1)
	conn, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(s.url, "http")+maps+"?watch=true&resourceVersion=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer resp.Body.Close()
	var e wireEvent
	if err := conn.ReadJSON(&e); err != nil || e.String() != "ADDED m0" {
		t.Errorf("event %v (%v)", e, err)
	}
	s.must(http.StatusOK, "DELETE", maps+"/m0", "")
	if err := conn.ReadJSON(&e); err != nil || e.Type != "DELETED" {
		t.Errorf("event %v (%v)", e, err)
	}
}

func TestRemovedResourceEndsWatches(t *testing.T) {
	s := newServer(t)
	st := s.store("example.com", "widgets")
	_, r := s.open("/apis/example.com/v1/widgets?watch=true&resourceVersion=0")
	s.api.Remove(st.Resource().GroupResource())
	st.Close()
	s.must(http.StatusNotFound, "GET", "/apis/example.com/v1/widgets", "")
	if e := nextEvent(t, r); e.Type != "ERROR" {
		t.Errorf("event %v", e)
	}
}
