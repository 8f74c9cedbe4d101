package webhookclient

import (
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/utils/ptr"
)

func TestPost(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/hook", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"host":"` + r.Host + `","query":"` + r.URL.RawQuery + `"}`))
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/hook", http.StatusFound) })
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat(" ", maxAnswer+2))) // the client goes away
	})
	server := httptest.NewUnstartedServer(mux)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	dialled := ""
	clients := New(func(ctx context.Context, namespace, service string, port int32) (net.Conn, error) {
		dialled = namespace + "/" + service
		var d net.Dialer
		return d.DialContext(ctx, "tcp", server.Listener.Addr().String())
	})
	t.Cleanup(clients.Close)
	at := func(path string) Target { return Target{URL: ptr.To(server.URL + path), CABundle: ca} }
	for name, tc := range map[string]struct {
		target Target
		err    string
	}{
		"by URL":                     {at("/hook"), ""},
		"a path that is not clean":   {at("//hook/"), ""},
		"a redirect":                 {at("/away"), "the server responded with status 302"},
		"an answer that is too long": {at("/long"), "above 16777216 bytes"},
		"an unknown authority":       {Target{URL: ptr.To(server.URL + "/hook")}, "certificate signed by unknown authority"},
		"no TLS":                     {Target{URL: ptr.To("http://example.com")}, "only https webhooks are supported"},
		"no place":                   {Target{}, "must have either service or URL"},
		"no certificate":             {Target{URL: ptr.To(server.URL), CABundle: []byte("x")}, "unable to parse bytes as PEM block"},
		// The test's server has a certificate of another name: it is refused, but only
		// after the service was dialled.
		"by service": {Target{Service: &Service{Namespace: "ns", Name: "svc"}, CABundle: ca}, "not svc.ns.svc"},
	} {
		t.Run(name, func(t *testing.T) {
			var out struct{ Host, Query string }
			err := clients.Post(t.Context(), tc.target, map[string][]string{"timeout": {"5s"}}, struct{}{}, &out)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || out.Query != "timeout=5s" || out.Host != server.Listener.Addr().String() {
				t.Fatalf("answer %+v, %v", out, err)
			}
		})
	}
	if dialled != "ns/svc" {
		t.Errorf("dialled %q", dialled)
	}
}
