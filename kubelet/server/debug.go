package server

import (
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"

	"github.com/go-chi/chi/v5"
	"k8s.io/klog/v2"
)

// profiles serves the process's profiles.
func profiles(r chi.Router) {
	r.HandleFunc("/debug/pprof/", pprof.Index)
	r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	r.HandleFunc("/debug/pprof/profile", pprof.Profile)
	r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	r.HandleFunc("/debug/pprof/trace", pprof.Trace)
	r.HandleFunc("/debug/pprof/{name}", func(w http.ResponseWriter, r *http.Request) {
		pprof.Handler(chi.URLParam(r, "name")).ServeHTTP(w, r)
	})
}

// setVerbosity changes how much is logged while the process runs.
func setVerbosity(w http.ResponseWriter, r *http.Request) {
	const longest = 16
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longest))
	if err != nil {
		http.Error(w, "error reading request body: "+err.Error(), http.StatusBadRequest)
		return
	}
	var level klog.Level
	if err := level.Set(string(body)); err != nil {
		http.Error(w, fmt.Sprintf("failed set klog.logging.verbosity %s: %v", body, err), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "successfully set klog.logging.verbosity to %s", body)
}
