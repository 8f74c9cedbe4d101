package handlers_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"skiff/apiserver/request"
)

// largest remembers the longest text that was written at once.
type largest struct {
	*httptest.ResponseRecorder

	most int
}

// Write implements http.ResponseWriter.
func (l *largest) Write(b []byte) (int, error) {
	l.most = max(l.most, len(b))
	return l.ResponseRecorder.Write(b)
}

// TestListsStream: no format of a list is put together as a whole before it is sent.
//
// Covers: api.encodings
func TestListsStream(t *testing.T) {
	const items, size = 20, 100 << 10
	s := newServer(t)
	for i := range items {
		s.must(http.StatusCreated, "POST", maps, fmt.Sprintf(`{"metadata":{"name":"m%d"},"data":{"k":%q}}`, i, strings.Repeat("x", size)))
	}
	for _, tc := range []struct{ name, query, accept string }{
		{"JSON", "", "application/json"}, {"indented JSON", "?pretty=true", "application/json"}, {"YAML", "", "application/yaml"},
		{"CBOR", "", "application/cbor"}, {"protobuf", "", "application/vnd.kubernetes.protobuf"},
		{"metadata alone", "", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, maps+tc.query, nil)
			r.Header.Set("Accept", tc.accept)
			w := &largest{ResponseRecorder: httptest.NewRecorder()}
			s.api.ServeHTTP(w, r.WithContext(request.WithInfo(r.Context(), request.Parse(r))))
			if w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if w.most > 2*size {
				t.Errorf("%d bytes were written at once, of %d", w.most, w.Body.Len())
			}
		})
	}
}
