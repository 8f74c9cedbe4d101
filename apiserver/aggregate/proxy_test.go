package aggregate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	v1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"skiff/apiserver/request"
)

// front hands what comes for other.example.com/v1 on to a server, and remembers
// what that server was asked.
func front(t *testing.T, answer http.HandlerFunc) (address string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var paths []string
	backend := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.URL.Path+" as "+strings.Join(r.Header.Values("X-Remote-User"), ",")+" in "+strings.Join(r.Header.Values("X-Remote-Group"), ",")+strings.Join(r.Header.Values("Impersonate-User"), ","))
		mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(backend.Close)
	a := &Aggregator{cfg: Config{Log: slog.New(slog.DiscardHandler)}}
	gv := schema.GroupVersion{Group: "other.example.com", Version: "v1"}
	r := a.newRoute(&v1.APIService{Spec: v1.APIServiceSpec{InsecureSkipTLSVerify: true, Service: &v1.ServiceReference{Namespace: "ns", Name: "other"}}})
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, backend.Listener.Addr().String())
	}
	r.transport.DialContext, r.upgrades.DialContext, r.available = dial, dial, true
	t.Cleanup(r.close)
	a.routes.Store(&map[schema.GroupVersion]*route{gv: r})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(request.WithUser(r.Context(), &user.DefaultInfo{Name: "jane", Groups: []string{"users"}}))
		if !a.Handle(w, r) {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return paths
	}
}

// ask sends a request as it is and returns what comes next on the connection.
func ask(t *testing.T, address, text string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprint(conn, text)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, r, resp
}

// Who asks for an upgrade and is refused does not keep the connection to the other
// server, where he would be this one (CVE-2018-1002105).
//
// Covers: api.aggregation
func TestRefusedUpgradeLeavesNoConnection(t *testing.T) {
	for _, code := range []int{http.StatusOK, http.StatusForbidden, http.StatusInternalServerError} {
		address, asked := front(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		conn, r, resp := ask(t, address, "GET /apis/other.example.com/v1/things HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if resp.StatusCode != code {
			t.Errorf("got %d, want %d", resp.StatusCode, code)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET /apis/stolen/v1/secrets HTTP/1.1\r\nHost: x\r\nX-Remote-User: admin\r\n\r\n")
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		next, err := http.ReadResponse(r, nil)
		switch {
		case err == nil && next.StatusCode != http.StatusNotFound:
			t.Errorf("the second request got %d", next.StatusCode)
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Errorf("the connection stays open without an answer")
		}
		if got := asked(); len(got) != 1 || got[0] != "/apis/other.example.com/v1/things as jane in users" {
			t.Errorf("the other server got %q", got)
		}
	}
}

// A redirect of an aggregated server reaches neither this server, which would
// follow it with its certificate, nor the client, which would with its own
// credentials (CVE-2022-3172).
//
// Covers: api.aggregation
func TestRedirectsAreRefused(t *testing.T) {
	for _, code := range []int{300, 301, 302, 303, 307, 308, 399} {
		for _, extra := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\n"} {
			address, asked := front(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "https://"+r.Host+"/elsewhere")
				w.WriteHeader(code)
			})
			_, _, resp := ask(t, address, "GET /apis/other.example.com/v1/things HTTP/1.1\r\nHost: x\r\n"+extra+"\r\n")
			if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Location") != "" || len(asked()) != 1 {
				t.Errorf("%d %q: got %d to %q after %q", code, extra, resp.StatusCode, resp.Header.Get("Location"), asked())
			}
		}
	}
}

// Who the user is says this server alone, whatever the client writes and however.
//
// Covers: api.aggregation, api.bad-input
func TestClientsCannotSayWhoTheyAre(t *testing.T) {
	address, asked := front(t, func(http.ResponseWriter, *http.Request) {})
	for _, header := range []string{
		"X-Remote-User: admin", "x-remote-user: admin", "X-REMOTE-GROUP: system:masters", "X-Remote-Extra-Scopes: all", "Impersonate-User: admin", "Connection: X-Remote-User\r\nX-Remote-User: admin",
	} {
		_, _, resp := ask(t, address, "GET /apis/other.example.com/v1/things HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n")
		if got := asked(); resp.StatusCode != http.StatusOK || got[len(got)-1] != "/apis/other.example.com/v1/things as jane in users" {
			t.Errorf("%q: got %d, the other server saw %q", header, resp.StatusCode, got)
		}
	}
}
