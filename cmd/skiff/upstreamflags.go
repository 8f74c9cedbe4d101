package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// inert is a flag of a part of Kubernetes that skiff's part takes and does not need,
// so that command lines and manifests written for Kubernetes start it unchanged.
type inert struct {
	name string
	// bare flags may stand without a value, as booleans do.
	bare bool
	// only are the values that say what skiff does anyhow: any other is refused. None
	// lets every value pass, with a warning.
	only []string
	why  string

	value string
}

// String and the others make it a pflag.Value.
func (i *inert) String() string { return i.value }
func (i *inert) Type() string   { return "string" }
func (i *inert) Set(v string) error {
	if len(i.only) > 0 && !slices.Contains(i.only, v) {
		return fmt.Errorf("%s; leave it out, or give %s", i.why, strings.Join(quoted(i.only), " or "))
	}
	i.value = v
	return nil
}

func quoted(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return out
}

// addInert declares those of list that are not declared yet, hidden from --help.
func addInert(f *pflag.FlagSet, list []inert) {
	for i := range list {
		v := &list[i]
		if f.Lookup(v.name) != nil {
			continue
		}
		flag := f.VarPF(v, v.name, "", v.why)
		flag.Hidden = true
		if v.bare {
			flag.NoOptDefVal = "true"
		}
	}
}

// warnInert names the flags that were given and change nothing.
func warnInert(f *pflag.FlagSet, log *slog.Logger) {
	f.Visit(func(flag *pflag.Flag) {
		if v, ok := flag.Value.(*inert); ok && len(v.only) == 0 {
			log.Warn("a flag is taken and changes nothing", "flag", "--"+flag.Name, "value", v.value, "why", v.why)
		}
	})
}

// Why a flag changes nothing.
const (
	notKept    = "skiff keeps nothing of this kind"
	itself     = "skiff sizes it by itself"
	oneVersion = "skiff serves one version of Kubernetes"
	logged     = "skiff logs as text or JSON to standard error"
	oneParty   = "skiff serves it with the rest"
	noMetrics  = "skiff has no hidden or labelled metrics of this kind"
	elsewhere  = "it is for a cloud provider outside of skiff"
)

// inertOfAll are those that all parts of Kubernetes have.
func inertOfAll() []inert {
	return []inert{
		{name: "allow-metric-labels", why: noMetrics}, {name: "allow-metric-labels-manifest", why: noMetrics},
		{name: "disabled-metrics", why: noMetrics}, {name: "show-hidden-metrics-for-version", why: noMetrics},
		{name: "emulated-version", why: oneVersion}, {name: "emulation-forward-compatible", bare: true, why: oneVersion},
		{name: "min-compatibility-version", why: oneVersion},
		{name: "log-flush-frequency", why: logged}, {name: "log-json-info-buffer-size", why: logged},
		{name: "log-json-split-stream", bare: true, why: logged}, {name: "log-text-info-buffer-size", why: logged},
		{name: "log-text-split-stream", bare: true, why: logged},
		{name: "vmodule", why: logged}, {name: "logtostderr", bare: true, why: logged}, {name: "alsologtostderr", bare: true, why: logged},
		{name: "profiling", bare: true, why: oneParty}, {name: "contention-profiling", bare: true, why: notKept},
	}
}

// inertOfServing are those of parts that serve for themselves upstream.
func inertOfServing() []inert {
	return []inert{
		{name: "authentication-kubeconfig", why: oneParty}, {name: "authentication-skip-lookup", bare: true, why: oneParty},
		{name: "authentication-token-webhook-cache-ttl", why: oneParty}, {name: "authentication-tolerate-lookup-failure", bare: true, why: oneParty},
		{name: "authorization-always-allow-paths", why: oneParty}, {name: "authorization-kubeconfig", why: oneParty},
		{name: "authorization-webhook-cache-authorized-ttl", why: oneParty}, {name: "authorization-webhook-cache-unauthorized-ttl", why: oneParty},
		{name: "bind-address", why: oneParty}, {name: "secure-port", why: oneParty}, {name: "cert-dir", why: oneParty},
		{name: "client-ca-file", why: oneParty}, {name: "disable-http2-serving", bare: true, why: oneParty},
		{name: "http2-max-streams-per-connection", why: oneParty}, {name: "permit-address-sharing", bare: true, why: oneParty},
		{name: "permit-port-sharing", bare: true, why: oneParty},
		{name: "requestheader-allowed-names", why: oneParty}, {name: "requestheader-client-ca-file", why: oneParty},
		{name: "requestheader-extra-headers-prefix", why: oneParty}, {name: "requestheader-group-headers", why: oneParty},
		{name: "requestheader-uid-headers", why: oneParty}, {name: "requestheader-username-headers", why: oneParty},
		{name: "tls-cert-file", why: oneParty}, {name: "tls-private-key-file", why: oneParty}, {name: "tls-cipher-suites", why: oneParty},
		{name: "tls-curve-preferences", why: oneParty}, {name: "tls-min-version", why: oneParty}, {name: "tls-sni-cert-key", why: oneParty},
		{name: "kube-api-burst", why: itself}, {name: "kube-api-content-type", why: itself}, {name: "kube-api-qps", why: itself},
		{name: "master", only: []string{""}, why: "the API is reached by --kubeconfig alone"},
		{name: "leader-elect-resource-lock", only: []string{"leases"}, why: "leaders are elected by Leases"},
		{name: "leader-elect-resource-name", why: itself}, {name: "leader-elect-resource-namespace", why: itself},
		{name: "leader-elect-lease-duration", why: itself}, {name: "leader-elect-renew-deadline", why: itself}, {name: "leader-elect-retry-period", why: itself},
	}
}
