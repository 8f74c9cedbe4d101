package main

// proxyFields are the fields of KubeProxyConfiguration that kube-proxy v1.37 has flags
// for (https://kubernetes.io/docs/reference/command-line-tools-reference/kube-proxy/).
func proxyFields() []configField {
	return []configField{
		{"bind-address", "bindAddress", text},
		{"bind-address-hard-fail", "bindAddressHardFail", boolean},
		{"cluster-cidr", "clusterCIDR", text},
		{"config-sync-period", "configSyncPeriod", text},
		{"conntrack-max-per-core", "conntrack.maxPerCore", number},
		{"conntrack-min", "conntrack.min", number},
		{"conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", boolean},
		{"conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout", text},
		{"conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout", text},
		{"conntrack-udp-timeout", "conntrack.udpTimeout", text},
		{"conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", text},
		{"detect-local-mode", "detectLocalMode", text},
		{"healthz-bind-address", "healthzBindAddress", text},
		{"hostname-override", "hostnameOverride", text},
		{"iptables-localhost-nodeports", "iptables.localhostNodePorts", boolean},
		{"iptables-masquerade-bit", "iptables.masqueradeBit", number},
		{"iptables-min-sync-period", "iptables.minSyncPeriod", text},
		{"iptables-sync-period", "iptables.syncPeriod", text},
		{"ipvs-exclude-cidrs", "ipvs.excludeCIDRs", list},
		{"ipvs-min-sync-period", "ipvs.minSyncPeriod", text},
		{"ipvs-scheduler", "ipvs.scheduler", text},
		{"ipvs-strict-arp", "ipvs.strictARP", boolean},
		{"ipvs-sync-period", "ipvs.syncPeriod", text},
		{"ipvs-tcp-timeout", "ipvs.tcpTimeout", text},
		{"ipvs-tcpfin-timeout", "ipvs.tcpFinTimeout", text},
		{"ipvs-udp-timeout", "ipvs.udpTimeout", text},
		{"kube-api-burst", "clientConnection.burst", number},
		{"kube-api-content-type", "clientConnection.contentType", text},
		{"kube-api-qps", "clientConnection.qps", number},
		{"masquerade-all", "iptables.masqueradeAll,nftables.masqueradeAll", boolean},
		{"metrics-bind-address", "metricsBindAddress", text},
		{"nodeport-addresses", "nodePortAddresses", list},
		{"oom-score-adj", "oomScoreAdj", number},
		{"pod-bridge-interface", "detectLocal.bridgeInterface", text},
		{"pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", text},
		{"proxy-mode", "mode", text},
	}
}

// inertOfProxy are kube-proxy's flags that skiff's does not need.
func inertOfProxy() []inert {
	return append(inertOfAll(), []inert{
		{name: "init-only", bare: true, only: []string{"false"}, why: "the proxy needs no more rights to begin than to run"},
		{name: "master", only: []string{""}, why: "the API is reached by --kubeconfig alone"},
		{name: "write-config-to", only: []string{""}, why: "skiff config print writes configurations"},
		{name: "feature-gates", why: "no gate changes what skiff does"},
	}...)
}
