package apiservertest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// Answer is a response that was read to its end.
type Answer struct {
	Code   int
	Header http.Header
	Body   []byte
}

// Call sends a plain HTTP request for the administrator. headers are pairs.
func (s *Server) Call(t testing.TB, method, path, body string, headers ...string) Answer {
	t.Helper()
	return s.CallAs(t, s.Admin, method, path, body, headers...)
}

// CallAs is Call with the access given.
func (s *Server) CallAs(t testing.TB, as *rest.Config, method, path, body string, headers ...string) Answer {
	t.Helper()
	rt, err := rest.TransportFor(as)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, resp.Body); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return Answer{resp.StatusCode, resp.Header, b.Bytes()}
}
