package proxy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/kube-proxy/config/v1alpha1"

	"skiff/cluster/introspection"
)

// pages are what the metrics' address serves: how the proxy does, for those who look
// after the node.
func (p *Proxy) pages() http.Handler {
	routes := map[string]http.HandlerFunc{
		"/metrics":      promhttp.HandlerFor(p.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP,
		"/metrics/slis": p.metrics.checks.Handler().ServeHTTP,
		"/proxyMode":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, p.cfg.Mode) },
		// That the process answers; whether rules get written is the other address'.
		"/healthz": func(w http.ResponseWriter, _ *http.Request) {
			p.metrics.checks.Checked("healthz", "ping", nil)
			fmt.Fprint(w, "ok")
		},
		"/configz": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{v1alpha1.GroupName: p.cfg.document()}) // the client may be gone
		},
	}
	look := introspection.New(introspection.Config{
		Component: "kube-proxy", Started: p.began, Flags: p.cfg.Flags, Paths: func() []string { return slices.Collect(maps.Keys(routes)) },
	})
	routes["/statusz"], routes["/flagz"] = look.Statusz, look.Flagz
	mux := http.NewServeMux()
	for path, serve := range routes {
		mux.HandleFunc(path, serve)
	}
	return mux
}
