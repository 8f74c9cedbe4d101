package introspection

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
)

const warning = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"

func pages() *Pages {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p := New(Config{
		Component: "kube-apiserver", Started: start, GoVersion: "go1.26", BinaryVersion: "1.37.2+skiff.1", EmulationVersion: "1.37",
		Paths: func() []string {
			return []string{"/api", "/apis/apps", "/livez/etcd", "/livez", "/metrics", "/openapi/v2", "/openid/v1/jwks", "/.well-known/x", "/"}
		},
		Flags: map[string]string{"b": "2", "a": "[]"},
	})
	p.now = func() time.Time { return start.Add(25*time.Hour + 2*time.Minute + 3*time.Second) }
	return p
}

// Covers: api.introspection
func TestPages(t *testing.T) {
	const (
		status = "\nkube-apiserver statusz\n" + warning + `
Started: Fri Jan  2 03:04:05 UTC 2026
Up: 25 hr 02 min 03 sec
Go version: go1.26
Binary version: 1.37.2+skiff.1
Emulation version: 1.37
Paths: /livez /metrics
`
		flags      = "\nkube-apiserver flagz\n" + warning + "a=[]\nb=2\n"
		statusJSON = `{"kind":"Statusz","apiVersion":"config.k8s.io/v1beta1","metadata":{"name":"kube-apiserver"},"startTime":"2026-01-02T03:04:05Z",` +
			`"uptimeSeconds":90123,"goVersion":"go1.26","binaryVersion":"1.37.2+skiff.1","emulationVersion":"1.37","paths":["/livez","/metrics"]}`
		refused = `only the following media types are accepted: application/json, application/yaml, text/plain`
	)
	for name, tc := range map[string]struct {
		page, accept string
		code         int
		media, body  string
		deprecated   bool
	}{
		"status":                      {"/statusz", "", 200, "text/plain; charset=utf-8", status, false},
		"status, anything":            {"/statusz", "*/*", 200, "text/plain; charset=utf-8", status, false},
		"status, text":                {"/statusz", "application/json, text/plain", 200, "text/plain; charset=utf-8", status, false},
		"status as data":              {"/statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Statusz", 200, "application/json", statusJSON, false},
		"status as data, wanted less": {"/statusz", "text/plain;q=0.5, application/json;v=v1beta1;g=config.k8s.io;as=Statusz", 200, "application/json", statusJSON, false},
		"status as old data":          {"/statusz", "application/json;v=v1alpha1;g=config.k8s.io;as=Statusz", 200, "application/json", strings.Replace(statusJSON, "v1beta1", "v1alpha1", 1), true},
		"status as bare JSON":         {"/statusz", "application/json", 406, "application/json", refused, false},
		"status as another kind":      {"/statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Flagz", 406, "application/json", refused, false},
		"status as another version":   {"/statusz", "application/json;v=v2;g=config.k8s.io;as=Statusz", 406, "application/json", refused, false},
		"status as another group":     {"/statusz", "application/json;v=v1beta1;g=meta.k8s.io;as=Statusz", 406, "application/json", refused, false},
		"status as HTML":              {"/statusz", "text/html", 406, "application/json", refused, false},
		"flags":                       {"/flagz", "", 200, "text/plain; charset=utf-8", flags, false},
		"flags as data":               {"/flagz", "application/json;v=v1beta1;g=config.k8s.io;as=Flagz", 200, "application/json", `{"kind":"Flagz","apiVersion":"config.k8s.io/v1beta1","metadata":{"name":"kube-apiserver"},"flags":{"a":"[]","b":"2"}}`, false},
		"flags as YAML":               {"/flagz", "application/yaml;v=v1beta1;g=config.k8s.io;as=Flagz", 200, "application/yaml", "apiVersion: config.k8s.io/v1beta1\nflags:\n  a: '[]'\n  b: \"2\"\nkind: Flagz\nmetadata:\n  name: kube-apiserver\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			p, r, w := pages(), httptest.NewRequest("GET", tc.page, nil), httptest.NewRecorder()
			if tc.accept != "" {
				r.Header.Set("Accept", tc.accept)
			}
			if tc.page == "/statusz" {
				p.Statusz(w, r)
			} else {
				p.Flagz(w, r)
			}
			if w.Code != tc.code || w.Header().Get("Content-Type") != tc.media {
				t.Errorf("%d %s, want %d %s", w.Code, w.Header().Get("Content-Type"), tc.code, tc.media)
			}
			got := w.Body.String()
			if tc.code != 200 {
				if !strings.Contains(got, tc.body) {
					t.Errorf("%s, want it to say %q", got, tc.body)
				}
			} else if d := cmp.Diff(tc.body, got); d != "" {
				t.Error(d)
			}
			if old := w.Header().Get("Warning") != ""; old != tc.deprecated {
				t.Errorf("a warning: %v, want %v", old, tc.deprecated)
			}
		})
	}
}

// Covers: api.introspection
func TestConfigz(t *testing.T) {
	p := pages()
	p.cfg.Configurations = func() (map[string]runtime.Object, error) {
		return map[string]runtime.Object{"x": &runtime.Unknown{Raw: []byte(`{"kind":"X"}`), ContentType: "application/json"}}, nil
	}
	w := httptest.NewRecorder()
	p.Configz(w, httptest.NewRequest("GET", "/configz", nil))
	if got := w.Body.String(); w.Code != 200 || got != `{"x":{"kind":"X"}}` {
		t.Errorf("%d %s", w.Code, got)
	}
	p.cfg.Configurations = func() (map[string]runtime.Object, error) { return nil, errors.New("none") }
	w = httptest.NewRecorder()
	p.Configz(w, httptest.NewRequest("GET", "/configz", nil))
	if w.Code != 500 {
		t.Errorf("an error gives %d", w.Code)
	}
}
