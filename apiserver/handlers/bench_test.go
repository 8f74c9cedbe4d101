package handlers_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"skiff/apiserver/request"
)

// discard is a response that keeps nothing.
type discard struct {
	header http.Header
	n      int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { d.n += len(b); return len(b), nil }

// BenchmarkRead is the server's own cost of reads, without the connection.
func BenchmarkRead(b *testing.B) {
	s := newServer(b)
	value := strings.Repeat("x", 1000)
	for i := range 1000 {
		s.must(http.StatusCreated, "POST", maps, fmt.Sprintf(`{"metadata":{"name":"m%d"},"data":{"k":%q}}`, i, value))
	}
	for _, bc := range []struct{ name, path, accept string }{
		{"get/protobuf", maps + "/m7", protoType},
		{"get/json", maps + "/m7", "application/json"},
		{"list-1000/protobuf", maps, protoType},
		{"list-1000/json", maps, "application/json"},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("GET", bc.path, nil)
				r.Header.Set("Accept", bc.accept)
				w := &discard{header: http.Header{}}
				s.api.ServeHTTP(w, r.WithContext(request.WithInfo(r.Context(), request.Parse(r))))
				if w.n == 0 {
					b.Fatal("no answer")
				}
			}
		})
	}
}

// BenchmarkWrite is the cost of writes with the store's.
func BenchmarkWrite(b *testing.B) {
	s := newServer(b)
	s.must(http.StatusCreated, "POST", pods, podBody)
	n := 0
	for b.Loop() {
		n++
		s.must(http.StatusOK, "PATCH", pods+"/p/status", fmt.Sprintf(`{"status":{"message":"%d"}}`, n), "Content-Type", smPatch)
	}
}
