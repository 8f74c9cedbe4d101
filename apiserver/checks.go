package apiserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// check is one named check of the server's health.
type check struct {
	name string
	run  func(ctx context.Context) error
}

// checks are those behind /livez, /readyz and /healthz.
type checks struct {
	live, ready []check
	started     atomic.Bool
	stopping    atomic.Bool
	metrics     *metrics
}

func newChecks() *checks {
	c := &checks{metrics: newMetrics()}
	ok := func(context.Context) error { return nil }
	c.live = []check{{"ping", ok}, {"log", ok}}
	c.ready = append(slices.Clone(c.live),
		check{"shutdown", func(context.Context) error {
			if c.stopping.Load() {
				return errors.New("process is shutting down")
			}
			return nil
		}})
	for _, name := range startup() {
		c.ready = append(c.ready, check{name, func(context.Context) error {
			if !c.started.Load() {
				return errors.New("the caches are not full, or the objects of a fresh cluster are not there yet")
			}
			return nil
		}})
	}
	return c
}

// startup are upstream's names for what is done before a server is ready. Here all
// of it is one step, but tools wait for some of them by name.
func startup() []string {
	names := []string{"informer-sync"}
	for _, hook := range []string{
		"start-apiserver-admission-initializer", "generic-apiserver-start-informers", "priority-and-fairness-config-consumer",
		"priority-and-fairness-filter", "storage-object-count-tracker-hook", "start-apiextensions-informers", "start-apiextensions-controllers",
		"crd-informer-synced", "start-system-namespaces-controller", "peer-endpoint-reconciler-controller",
		"start-cluster-authentication-info-controller", "start-kube-apiserver-identity-lease-controller",
		"start-kube-apiserver-identity-lease-garbage-collector", "storage-readiness", "start-legacy-token-tracking-controller",
		"start-service-ip-repair-controllers", "rbac/bootstrap-roles", "scheduling/bootstrap-system-priority-classes",
		"priority-and-fairness-config-producer", "bootstrap-controller", "start-kubernetes-service-cidr-controller",
		"aggregator-reload-proxy-client-cert", "start-kube-aggregator-informers", "apiservice-status-local-available-controller",
		"apiservice-status-remote-available-controller", "apiservice-registration-controller", "apiservice-discovery-controller",
		"kube-apiserver-autoregistration", "apiservice-openapi-controller", "apiservice-openapiv3-controller",
	} {
		names = append(names, "poststarthook/"+hook)
	}
	return append(names, "autoregister-completion")
}

// add adds a check to both lists. It is for wiring only.
func (c *checks) add(name string, run func(context.Context) error) {
	c.live = append(c.live, check{name, run})
	c.ready = append(c.ready, check{name, run})
}

// addReady adds a check of readiness. It is for wiring only.
func (c *checks) addReady(name string, run func(context.Context) error) {
	c.ready = append(c.ready, check{name, run})
}

func (c *checks) done() { c.started.Store(true) }

func (c *checks) list(kind string) []check {
	if kind == "livez" {
		return c.live
	}
	return c.ready
}

func (c *checks) serve(w http.ResponseWriter, r *http.Request, kind string) {
	exclude := map[string]bool{}
	for _, name := range r.URL.Query()["exclude"] {
		exclude[name] = true
	}
	var b strings.Builder
	failed := false
	for _, ch := range c.list(kind) {
		if exclude[ch.name] {
			delete(exclude, ch.name)
			fmt.Fprintf(&b, "[+]%s excluded: ok\n", ch.name)
			continue
		}
		err := ch.run(r.Context())
		c.metrics.health.Checked(kind, ch.name, err)
		if err != nil {
			failed = true
			fmt.Fprintf(&b, "[-]%s failed: reason withheld\n", ch.name)
			continue
		}
		fmt.Fprintf(&b, "[+]%s ok\n", ch.name)
	}
	if len(exclude) > 0 {
		fmt.Fprintf(&b, "warn: some health checks cannot be excluded: no matches for %s\n", quoted(exclude))
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if failed {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "%s%s check failed\n", b.String(), kind)
		return
	}
	if _, verbose := r.URL.Query()["verbose"]; verbose {
		fmt.Fprintf(w, "%s%s check passed\n", b.String(), kind)
		return
	}
	fmt.Fprint(w, "ok")
}

func quoted(names map[string]bool) string {
	out := make([]string, 0, len(names))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		out = append(out, strconv.Quote(name))
	}
	return strings.Join(out, ", ")
}

func (c *checks) serveOne(w http.ResponseWriter, r *http.Request, kind, name string) {
	for _, ch := range c.list(kind) {
		if ch.name != name {
			continue
		}
		err := ch.run(r.Context())
		c.metrics.health.Checked(kind, name, err)
		if err != nil {
			http.Error(w, "internal server error: "+err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "ok")
		return
	}
	http.NotFound(w, r)
}
