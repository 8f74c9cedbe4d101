package main

// inertOfControllers are flags of kube-controller-manager v1.37 that skiff's
// controllers do not need.
func inertOfControllers() []inert {
	const (
		workers = "each controller has the workers it needs"
		signers = "all signers share --cluster-signing-cert-file"
	)
	list := append(inertOfAll(), inertOfServing()...)
	for _, of := range []string{
		"cron-job", "daemonset", "deployment", "endpoint", "ephemeralvolume", "gc", "horizontal-pod-autoscaler", "job", "namespace", "rc",
		"replicaset", "resource-quota", "service-endpoint", "service", "serviceaccount-token", "statefulset", "ttl-after-finished",
		"validating-admission-policy-status", "resourceclaim",
	} {
		list = append(list, inert{name: "concurrent-" + of + "-syncs", why: workers})
	}
	for _, of := range []string{"kubelet-client", "kubelet-serving", "kube-apiserver-client", "legacy-unknown"} {
		list = append(list, inert{name: "cluster-signing-" + of + "-cert-file", why: signers}, inert{name: "cluster-signing-" + of + "-key-file", why: signers})
	}
	return append(list, []inert{
		{name: "allow-untagged-cloud", bare: true, why: elsewhere}, {name: "cloud-config", why: elsewhere}, {name: "cloud-provider", only: []string{"", "external"}, why: "cloud providers run outside: skiff cloud is one"},
		{name: "cidr-allocator-type", only: []string{"RangeAllocator"}, why: "nodes get parts of one range"}, {name: "cluster-name", why: elsewhere}, {name: "configure-cloud-routes", bare: true, why: elsewhere},
		{name: "controller-shutdown-timeout", why: itself}, {name: "controller-start-interval", why: itself},
		{name: "deletion-grace-period", why: notKept}, {name: "disable-attach-detach-reconcile-sync", bare: true, only: []string{"false"}, why: "attached volumes are always compared with what they should be"},
		{name: "disable-force-detach-on-timeout", bare: true, only: []string{"false"}, why: "volumes of lost nodes are detached after six minutes"},
		{name: "enable-dynamic-provisioning", bare: true, only: []string{"true"}, why: "claims are always provisioned: name no StorageClass"},
		{name: "enable-garbage-collector", bare: true, only: []string{"true"}, why: "owners' objects are always collected"},
		{name: "enable-hostpath-provisioner", bare: true, only: []string{"false"}, why: "the local provisioner is built in"},
		{name: "enable-leader-migration", bare: true, only: []string{"false"}, why: "controllers have one leader"}, {name: "leader-migration-config", only: []string{""}, why: "controllers have one leader"},
		{name: "endpoint-updates-batch-period", why: itself}, {name: "endpointslice-updates-batch-period", why: itself},
		{name: "external-cloud-volume-plugin", why: elsewhere}, {name: "flex-volume-plugin-dir", why: notKept},
		{name: "horizontal-pod-autoscaler-cpu-initialization-period", why: itself}, {name: "horizontal-pod-autoscaler-downscale-stabilization", why: itself},
		{name: "horizontal-pod-autoscaler-initial-readiness-delay", why: itself}, {name: "horizontal-pod-autoscaler-sync-period", why: itself}, {name: "horizontal-pod-autoscaler-tolerance", why: itself},
		{name: "large-cluster-size-threshold", why: itself}, {name: "legacy-service-account-token-clean-up-period", why: itself},
		{name: "max-endpoints-per-slice", why: itself}, {name: "min-resync-period", why: "nothing is listed again without a reason"},
		{name: "mirroring-concurrent-service-endpoint-syncs", why: workers}, {name: "mirroring-endpointslice-updates-batch-period", why: itself}, {name: "mirroring-max-endpoints-per-subset", why: itself},
		{name: "namespace-sync-period", why: itself}, {name: "node-eviction-rate", why: itself}, {name: "node-startup-grace-period", why: itself}, {name: "node-sync-period", why: itself},
		{name: "pv-recycler-increment-timeout-nfs", why: notKept}, {name: "pv-recycler-minimum-timeout-hostpath", why: notKept}, {name: "pv-recycler-minimum-timeout-nfs", why: notKept},
		{name: "pv-recycler-pod-template-filepath-hostpath", why: notKept}, {name: "pv-recycler-pod-template-filepath-nfs", why: notKept}, {name: "pv-recycler-timeout-increment-hostpath", why: notKept},
		{name: "pvclaimbinder-sync-period", why: itself}, {name: "attach-detach-reconcile-sync-period", why: itself}, {name: "attach-detach-reconcile-max-wait-unmount-duration", why: itself},
		{name: "resource-quota-sync-period", why: itself}, {name: "route-reconciliation-period", why: elsewhere}, {name: "secondary-node-eviction-rate", why: itself},
		{name: "unhealthy-zone-threshold", why: itself}, {name: "use-service-account-credentials", bare: true, why: "each controller has an account of its own"},
		{name: "gc-threshold", why: itself}, {name: "ttl-after-finished-sync-period", why: itself},
	}...)
}

// inertOfScheduler are flags of kube-scheduler v1.37 that skiff's does not need.
func inertOfScheduler() []inert { return append(inertOfAll(), inertOfServing()...) }
