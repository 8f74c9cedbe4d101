package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/request"
)

func get(t *testing.T, ctx context.Context, h http.HandlerFunc) *http.Response {
	t.Helper()
	cfg := InProcess(h, &user.DefaultInfo{Name: "someone"}, "test")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cfg.Host+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := cfg.Transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestAnswerAndIdentity(t *testing.T) {
	resp := get(t, t.Context(), func(w http.ResponseWriter, r *http.Request) {
		u, _ := request.InProcessUser(r.Context())
		w.Header().Set("X-User", u.GetName())
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "body")
	})
	b, err := io.ReadAll(resp.Body)
	if err != nil || string(b) != "body" || resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-User") != "someone" {
		t.Errorf("got %q, %v, %s, user %q", b, err, resp.Status, resp.Header.Get("X-User"))
	}
}

func TestStreamArrivesBeforeTheEnd(t *testing.T) {
	ended := make(chan struct{})
	resp := get(t, t.Context(), func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	b := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "one" {
		t.Fatalf("got %q, %v", b, err)
	}
	resp.Body.Close()
	<-ended
}

func TestCancelEndsAWaitingRead(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	resp := get(t, ctx, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		close(started)
		<-r.Context().Done()
	})
	<-started
	cancel()
	if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestPanicIsAnError(t *testing.T) {
	resp := get(t, t.Context(), func(http.ResponseWriter, *http.Request) { panic("no") })
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("got no error")
	}
}
