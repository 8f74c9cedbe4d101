package main

// inertOfAPIServer are flags of kube-apiserver v1.37 that skiff's server does not need.
func inertOfAPIServer() []inert {
	const (
		cache  = "the watch cache holds what its clients need"
		etcd   = "the store watches itself"
		audit  = "audit records are written as JSON, one line each, as they come"
		stream = "streams are not throttled"
		ends   = "the server ends its requests within seconds when it stops"
		peers  = "each server serves every version"
	)
	return append(inertOfAll(), []inert{
		{name: "aggregator-reject-forwarding-redirect", bare: true, only: []string{"true"}, why: "redirects of aggregated servers are never followed or handed on"},
		{name: "allow-privileged", bare: true, only: []string{"true"}, why: "privileged pods are refused by Pod Security, not by a flag"},
		{name: "apiserver-count", why: notKept},
		{name: "audit-log-batch-buffer-size", why: audit}, {name: "audit-log-batch-max-size", why: audit}, {name: "audit-log-batch-max-wait", why: audit},
		{name: "audit-log-batch-throttle-burst", why: audit}, {name: "audit-log-batch-throttle-enable", bare: true, why: audit}, {name: "audit-log-batch-throttle-qps", why: audit},
		{name: "audit-log-format", only: []string{"json"}, why: audit},
		{name: "audit-log-mode", why: audit}, {name: "audit-log-version", only: []string{"audit.k8s.io/v1"}, why: "audit records have one version"},
		{name: "audit-webhook-batch-initial-backoff", why: "--audit-webhook-initial-backoff is its name now"},
		{name: "audit-webhook-version", only: []string{"audit.k8s.io/v1"}, why: "audit records have one version"},
		{name: "coordinated-leadership-lease-duration", why: itself}, {name: "coordinated-leadership-renew-deadline", why: itself}, {name: "coordinated-leadership-retry-period", why: itself},
		{name: "debug-socket-path", only: []string{""}, why: "profiles are served at /debug/pprof, to those who may"},
		{name: "default-watch-cache-size", why: cache}, {name: "watch-cache", bare: true, only: []string{"true"}, why: "reads are served from " + cache}, {name: "watch-cache-sizes", why: cache},
		{name: "delete-collection-workers", why: itself},
		{name: "disable-http2-serving", bare: true, only: []string{"false"}, why: "HTTP/2 is always served"},
		{name: "egress-selector-config-file", only: []string{""}, why: "the server dials by itself, without a proxy"},
		{name: "enable-aggregator-routing", bare: true, why: "endpoints of aggregated servers are always dialled directly"},
		{name: "enable-bootstrap-token-auth", bare: true, only: []string{"true"}, why: "bootstrap tokens always authenticate: delete their Secrets"},
		{name: "enable-garbage-collector", bare: true, only: []string{"true"}, why: "owners' objects are always collected"},
		{name: "enable-logs-handler", bare: true, only: []string{"false"}, why: "the machine's log files are not served"},
		{name: "endpoint-reconciler-type", why: "servers keep their leases in the store"},
		{name: "etcd-compaction-interval", why: etcd}, {name: "etcd-count-metric-poll-period", why: etcd}, {name: "etcd-db-metric-poll-interval", why: etcd},
		{name: "etcd-healthcheck-timeout", why: etcd}, {name: "etcd-readycheck-timeout", why: etcd}, {name: "storage-initialization-timeout", why: etcd},
		{name: "etcd-prefix", only: []string{"/registry"}, why: "objects are kept below /registry"},
		{name: "etcd-servers-overrides", only: []string{""}, why: "all objects are in one store"},
		{name: "external-hostname", why: notKept},
		{name: "identity-lease-duration-seconds", why: itself}, {name: "identity-lease-renew-interval-seconds", why: itself}, {name: "lease-reuse-duration-seconds", why: itself},
		{name: "kubelet-timeout", why: itself}, {name: "kubelet-port", why: "nodes tell their ports"}, {name: "kubelet-read-only-port", why: "nodes have none"},
		{name: "kubernetes-service-node-port", only: []string{"0"}, why: "the Service kubernetes is of type ClusterIP"},
		{name: "livez-grace-period", why: ends}, {name: "shutdown-delay-duration", why: ends}, {name: "shutdown-send-retry-after", bare: true, why: ends}, {name: "shutdown-watch-termination-grace-period", why: ends},
		{name: "max-connection-bytes-per-sec", why: stream},
		{name: "peer-advertise-ip", why: peers}, {name: "peer-advertise-port", why: peers}, {name: "peer-ca-file", why: peers}, {name: "peer-bind-address", why: peers},
		{name: "permit-address-sharing", bare: true, why: notKept}, {name: "permit-port-sharing", bare: true, why: notKept},
		{name: "runtime-config-emulation-forward-compatible", bare: true, why: oneVersion},
		{name: "service-account-lookup", bare: true, only: []string{"true"}, why: "accounts are always looked up"},
		{name: "service-account-signing-endpoint", only: []string{""}, why: "tokens are signed with --service-account-signing-key-file"},
		{name: "storage-backend", only: []string{"etcd3", ""}, why: "--etcd-servers names the store"},
		{name: "storage-media-type", only: []string{"application/vnd.kubernetes.protobuf"}, why: "built-in objects are kept as protobuf"},
		{name: "strict-transport-security-directives", why: "browsers are not the server's clients"},
		{name: "tls-curve-preferences", why: "curves are Go's"},
	}...)
}
