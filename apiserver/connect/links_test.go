package connect

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinks(t *testing.T) {
	const prefix = "/api/v1/namespaces/a/pods/http:p:80/proxy"
	p := passing{to: &url.URL{Scheme: "http", Host: "10.0.0.1:80", Path: "/"}, prefix: prefix}
	zip := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for name, tc := range map[string]struct{ kind, page, want string }{
		"a link":               {"text/html; charset=utf-8", `<a href="/rewriteme">test</a>`, `<a href="` + prefix + `/rewriteme">test</a>`},
		"of the same host":     {"text/html", `<img src="http://10.0.0.1:80/a?b=c">`, `<img src="` + prefix + `/a?b=c">`},
		"of another host":      {"text/html", `<a href="http://example.com/a">x</a>`, `<a href="http://example.com/a">x</a>`},
		"relative":             {"text/html", `<a href="b">x</a>`, `<a href="b">x</a>`},
		"below already":        {"text/html", `<a href="` + prefix + `/a">x</a>`, `<a href="` + prefix + `/a">x</a>`},
		"another attribute":    {"text/html", `<a title="/a" HREF='b'>x</a>`, `<a title="/a" HREF='b'>x</a>`},
		"a script stays":       {"text/html", `<script>if (a<b) { x("/a") }</script>`, `<script>if (a<b) { x("/a") }</script>`},
		"no page":              {"text/plain", `<a href="/rewriteme">test</a>`, `<a href="/rewriteme">test</a>`},
		"an address is broken": {"text/html", `<a href="/%zz">x</a>`, `<a href="/%zz">x</a>`},
	} {
		for _, zipped := range []bool{false, true} {
			resp := &http.Response{Header: http.Header{"Content-Type": {tc.kind}, "Content-Length": {"1"}}, Request: &http.Request{Method: http.MethodGet}}
			page := tc.page
			if zipped {
				resp.Header.Set("Content-Encoding", "gzip")
				page = zip(page)
			}
			resp.Body = io.NopCloser(strings.NewReader(page))
			p.links(resp)
			var r io.Reader = resp.Body
			if zipped {
				var err error
				if r, err = gzip.NewReader(r); err != nil {
					t.Fatal(err)
				}
			}
			b, err := io.ReadAll(r)
			if d := cmp.Diff(tc.want, string(b)); d != "" || err != nil {
				t.Errorf("%s, zipped %v: %v (-want +got):\n%s", name, zipped, err, d)
			}
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
