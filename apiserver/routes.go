package apiserver

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skiff/apiserver/handlers"
	"skiff/apiserver/request"
	"skiff/client/ownerwatch"
	"skiff/client/past"
	"skiff/cluster/introspection"
	"skiff/cluster/version"
)

// routes is what is served where.
func (s *Server) routes() http.Handler {
	r := chi.NewRouter()
	// Paths outside the API have upstream's plain answer.
	r.NotFound(http.NotFound)
	r.MethodNotAllowed(handlers.WriteMethodNotAllowed)
	api := func(w http.ResponseWriter, req *http.Request) {
		if s.extensions.aggregate.Handle(w, req) {
			return
		}
		info := request.InfoFrom(req.Context())
		if group, below := strings.CutPrefix(req.URL.Path, "/apis/"); below && !s.serves(group, info) {
			http.NotFound(w, req)
			return
		}
		if info.IsResource {
			s.api.ServeHTTP(w, req)
			return
		}
		s.discovery.ServeHTTP(w, req)
	}
	r.HandleFunc("/api", api)
	r.HandleFunc("/api/*", api)
	r.HandleFunc("/apis", api)
	r.HandleFunc("/apis/*", api)
	r.HandleFunc("/", s.index)
	r.Get("/version", s.version)
	r.Get("/version/", s.version)
	for _, name := range []string{"livez", "readyz", "healthz"} {
		r.HandleFunc("/"+name, func(w http.ResponseWriter, req *http.Request) { s.checks.serve(w, req, name) })
		// Names of checks have slashes.
		r.HandleFunc("/"+name+"/*", func(w http.ResponseWriter, req *http.Request) {
			s.checks.serveOne(w, req, name, chi.URLParam(req, "*"))
		})
	}
	r.Handle("/metrics", s.checks.metrics.handler())
	r.Handle("/metrics/slis", s.checks.metrics.health.Handler())
	if s.keys != nil {
		for _, end := range []string{"", "/"} {
			r.Get("/openid/v1/jwks"+end, s.keys.ServeJWKS)
			r.Get("/.well-known/openid-configuration"+end, s.keys.ServeConfig)
		}
	}
	pages := s.pages()
	r.HandleFunc("/statusz", pages.Statusz)
	r.HandleFunc("/flagz", pages.Flagz)
	r.Get("/configz", pages.Configz)
	r.Get(past.Path, s.api.ServeHistory)
	r.Get(ownerwatch.Path, s.api.ServeOwners)
	r.HandleFunc("/openapi/v3", s.openapi.ServeV3Index)
	r.HandleFunc("/openapi/v3/*", s.openapi.ServeV3)
	r.HandleFunc("/openapi/v2", s.openapi.ServeV2)
	r.Handle("/debug/pprof", http.RedirectHandler("/debug/pprof/", http.StatusFound))
	r.HandleFunc("/debug/pprof/", pprof.Index)
	r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	r.HandleFunc("/debug/pprof/profile", pprof.Profile)
	r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	r.HandleFunc("/debug/pprof/{name}", func(w http.ResponseWriter, req *http.Request) {
		pprof.Handler(chi.URLParam(req, "name")).ServeHTTP(w, req)
	})
	if s.flow != nil {
		for name, page := range s.flow.Dumps() {
			r.Get("/debug/api_priority_and_fairness/"+name, page)
		}
	}
	return r
}

// serves tells whether a path below /apis is of a group that there is. Of others
// not even the answer is the API's.
func (s *Server) serves(path string, info *request.Info) bool {
	group, _, _ := strings.Cut(path, "/")
	if group == "" || s.discovery.Serves(group) {
		return true
	}
	_, ok := s.api.Lookup(schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource})
	return info.IsResource && ok
}

// pages are those by which people look into the server.
func (s *Server) pages() *introspection.Pages {
	return introspection.New(introspection.Config{
		Component: "kube-apiserver", Started: s.started, Paths: s.paths, Flags: s.cfg.Flags,
		Configurations: func() (map[string]runtime.Object, error) {
			c, err := s.authz.Configuration()
			return map[string]runtime.Object{"authorization": c}, err
		},
	})
}

// paths are those that are served, in order.
func (s *Server) paths() []string {
	paths := append(s.discovery.Paths(), "/configz", "/flagz", "/healthz", "/livez", "/metrics", "/metrics/slis", "/openapi/v2", "/openapi/v3", "/readyz", "/statusz", "/version")
	for _, kind := range []string{"healthz", "livez", "readyz"} {
		for _, c := range s.checks.list(kind) {
			paths = append(paths, "/"+kind+"/"+c.name)
		}
	}
	if s.keys != nil {
		paths = append(paths, "/.well-known/openid-configuration", "/openid/v1/jwks")
	}
	slices.Sort(paths)
	return paths
}

// index lists the paths that are served.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	b, err := json.MarshalIndent(metav1.RootPaths{Paths: s.paths()}, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client is gone when this fails
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) {
	b, err := json.MarshalIndent(version.Info(), "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client is gone when this fails
}
