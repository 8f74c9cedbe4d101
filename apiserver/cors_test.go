package apiserver_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
)

// Pages of allowed origins may read answers, and ask before they do without
// credentials; others get what they would have got.
//
// Covers: api.cors
func TestCORS(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, func(c *apiserver.Config) {
		c.CORSAllowedOrigins = []string{`//console\.example\.com(:|$)`}
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsOf(t, s)}}
	defer client.CloseIdleConnections()
	type answer struct {
		Code          int
		Origin, Creds string
	}
	for _, tc := range []struct {
		name, method, origin string
		want                 answer
	}{
		{"preflight", "OPTIONS", "https://console.example.com", answer{204, "https://console.example.com", "true"}},
		{"with a port", "OPTIONS", "https://console.example.com:8443", answer{204, "https://console.example.com:8443", "true"}},
		{"a request", "GET", "https://console.example.com", answer{200, "https://console.example.com", "true"}},
		{"a host that only begins so", "OPTIONS", "https://console.example.com.evil.example", answer{Code: 403}},
		{"another origin", "GET", "https://evil.example", answer{Code: 200}},
		{"no origin", "GET", "", answer{Code: 200}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, s.Host+"/version", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.origin != "" {
				req.Header.Set("Origin", tc.origin)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got := answer{resp.StatusCode, resp.Header.Get("Access-Control-Allow-Origin"), resp.Header.Get("Access-Control-Allow-Credentials")}
			if tc.want.Code == 403 && got.Code >= 400 {
				got.Code = 403
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestCORSOriginsAreBound(t *testing.T) {
	for origin, want := range map[string]string{
		"example.com":      "does not pin to start/end of host",
		"//example.com":    "does not pin to start/end of host",
		"example.com$":     "does not pin to start/end of host",
		"^https://(a":      "missing closing )",
		"^https://a\\.b$":  "",
		"//localhost(:|$)": "",
	} {
		_, err := apiserver.New(apiserver.Config{CORSAllowedOrigins: []string{origin}})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if has := strings.Contains(got, "--cors-allowed-origins"); has != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", origin, got, want)
		}
	}
}
