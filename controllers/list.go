package controllers

import (
	"slices"

	certs "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	metrics "k8s.io/metrics/pkg/client/clientset/versioned"
	"k8s.io/metrics/pkg/client/custom_metrics"
	"k8s.io/metrics/pkg/client/external_metrics"

	"skiff/controllers/attachdetach"
	"skiff/controllers/bootstrapsigner"
	"skiff/controllers/clusterroleaggregation"
	"skiff/controllers/cronjob"
	"skiff/controllers/csrapproving"
	"skiff/controllers/csrcleaner"
	"skiff/controllers/csrsigning"
	"skiff/controllers/daemonset"
	"skiff/controllers/deployment"
	"skiff/controllers/devicetainteviction"
	"skiff/controllers/disruption"
	"skiff/controllers/dnsendpoints"
	"skiff/controllers/endpoints"
	"skiff/controllers/endpointslice"
	"skiff/controllers/endpointslicemirroring"
	"skiff/controllers/ephemeralvolume"
	"skiff/controllers/expand"
	"skiff/controllers/garbagecollector"
	"skiff/controllers/horizontalpodautoscaling"
	"skiff/controllers/job"
	"skiff/controllers/legacytokencleaner"
	"skiff/controllers/localprovisioner"
	"skiff/controllers/namespace"
	"skiff/controllers/nodeipam"
	"skiff/controllers/nodelifecycle"
	"skiff/controllers/podgc"
	"skiff/controllers/pvbinder"
	"skiff/controllers/pvcprotection"
	"skiff/controllers/pvprotection"
	"skiff/controllers/replicaset"
	"skiff/controllers/replicationcontroller"
	"skiff/controllers/resourceclaim"
	"skiff/controllers/resourcequota"
	"skiff/controllers/rootca"
	"skiff/controllers/serviceaccount"
	"skiff/controllers/serviceaccounttoken"
	"skiff/controllers/servicecidr"
	"skiff/controllers/statefulset"
	"skiff/controllers/storageversionmigrator"
	"skiff/controllers/tainteviction"
	"skiff/controllers/tokencleaner"
	"skiff/controllers/ttl"
	"skiff/controllers/ttlafterfinished"
	"skiff/controllers/vacprotection"
	"skiff/controllers/vapstatus"
)

// entry is one controller as data.
type entry struct {
	// name is upstream's, alias the shorter one of older flags.
	name, alias string
	// identity is the ServiceAccount in kube-system that it acts as; empty for
	// the manager's own.
	identity string
	// source names it in events.
	source string
	// optional controllers run only when named.
	optional bool
	// when says whether the configuration has what it needs; nil: always.
	when  func(Config) bool
	build func(parts) (runner, error)
}

func (e entry) is(name string) bool { return name == e.name || name == e.alias }

// chosen follows the flag's rules: a name counts more than the star.
func (e entry) chosen(names []string) bool {
	star := false
	for _, n := range names {
		switch {
		case e.is(n):
			return true
		case len(n) > 1 && n[0] == '-' && e.is(n[1:]):
			return false
		case n == "*":
			star = true
		}
	}
	return star && !e.optional
}

// of adapts a New function whose controller is a concrete type.
func of[T runner](c T, err error) (runner, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// list is every controller, in the order in which they start.
func list() []entry {
	return slices.Concat(cluster(), identities(), services(), workloads(), storage())
}

// cluster controllers keep nodes, namespaces and garbage.
func cluster() []entry {
	return []entry{
		{name: "namespace-controller", alias: "namespace", identity: "namespace-controller", source: "namespace-controller", build: func(p parts) (runner, error) {
			client, err := p.metadata()
			if err != nil {
				return nil, err
			}
			p.Workers = 10
			return of(namespace.New(namespace.Config{Parts: p.Parts, Metadata: client}))
		}},
		{name: "garbage-collector-controller", alias: "garbagecollector", identity: "generic-garbage-collector", source: "garbage-collector-controller", build: func(p parts) (runner, error) {
			client, err := p.metadata()
			if err != nil {
				return nil, err
			}
			return of(garbagecollector.New(garbagecollector.Config{Parts: p.Parts, Metadata: client}))
		}},
		{name: "node-ipam-controller", alias: "nodeipam", identity: "node-controller", source: "cidrAllocator",
			when: func(c Config) bool { return c.AllocateNodeCIDRs },
			build: func(p parts) (runner, error) {
				var sizes []int
				for _, r := range p.config.ClusterCIDRs {
					if r.Addr().Is4() {
						sizes = append(sizes, p.config.NodeCIDRMaskSizeIPv4)
					} else {
						sizes = append(sizes, p.config.NodeCIDRMaskSizeIPv6)
					}
				}
				return of(nodeipam.New(nodeipam.Config{
					Parts: p.Parts, ClusterCIDRs: p.config.ClusterCIDRs, ServiceCIDRs: p.config.ServiceCIDRs, MaskSizes: sizes,
				}))
			}},
		{name: "node-lifecycle-controller", alias: "nodelifecycle", identity: "node-controller", source: "node-controller", build: func(p parts) (runner, error) {
			return of(nodelifecycle.New(nodelifecycle.Config{
				Parts: p.Parts, GracePeriod: p.config.NodeMonitorGracePeriod, MonitorPeriod: p.config.NodeMonitorPeriod,
			}))
		}},
		{name: "taint-eviction-controller", alias: "tainteviction", identity: "node-controller", source: "taint-eviction-controller", build: func(p parts) (runner, error) {
			return of(tainteviction.New(tainteviction.Config{Parts: p.Parts}))
		}},
		{name: "device-taint-eviction-controller", alias: "devicetainteviction", identity: "device-taint-eviction-controller", source: "device-taint-eviction", build: func(p parts) (runner, error) {
			return of(devicetainteviction.New(devicetainteviction.Config{Parts: p.Parts}))
		}},
		{name: "pod-garbage-collector-controller", alias: "podgc", identity: "pod-garbage-collector", source: "pod-garbage-collector", build: func(p parts) (runner, error) {
			return of(podgc.New(podgc.Config{Parts: p.Parts, TerminatedPodThreshold: p.config.TerminatedPodGCThreshold}))
		}},
		{name: "storage-version-migrator-controller", alias: "svm", identity: "storage-version-migrator-controller", source: "storage-version-migrator-controller", build: func(p parts) (runner, error) {
			client, err := p.metadata()
			if err != nil {
				return nil, err
			}
			return of(storageversionmigrator.New(storageversionmigrator.Config{Parts: p.Parts, Metadata: client}))
		}},
		{name: "ttl-after-finished-controller", alias: "ttl-after-finished", identity: "ttl-after-finished-controller", source: "ttl-after-finished-controller", build: func(p parts) (runner, error) {
			return of(ttlafterfinished.New(ttlafterfinished.Config{Parts: p.Parts}))
		}},
		{name: "ttl-controller", alias: "ttl", identity: "ttl-controller", source: "ttl-controller", build: func(p parts) (runner, error) {
			return of(ttl.New(ttl.Config{Parts: p.Parts}))
		}},
	}
}

// identities are accounts, certificates, tokens and roles.
func identities() []entry {
	signing := func(c Config) bool { return c.ClusterSigningCertFile != "" }
	return []entry{
		{name: "serviceaccount-controller", alias: "serviceaccount", identity: "service-account-controller", source: "serviceaccount-controller", build: func(p parts) (runner, error) {
			return of(serviceaccount.New(serviceaccount.Config{Parts: p.Parts}))
		}},
		{name: "serviceaccount-token-controller", alias: "serviceaccount-token", identity: "", source: "serviceaccount-token-controller",
			when: func(c Config) bool { return c.ServiceAccountKeyFile != "" },
			build: func(p parts) (runner, error) {
				return of(serviceaccounttoken.New(serviceaccounttoken.Config{Parts: p.Parts, Key: p.material.accountKey, CA: p.material.rootCA}))
			}},
		{name: "root-ca-certificate-publisher-controller", alias: "root-ca-cert-publisher", identity: "root-ca-cert-publisher", source: "root-ca-cert-publisher",
			when: func(c Config) bool { return c.RootCAFile != "" },
			build: func(p parts) (runner, error) {
				return of(rootca.New(rootca.Config{Parts: p.Parts, CA: p.material.rootCA}))
			}},
		{name: "certificatesigningrequest-signing-controller", alias: "csrsigning", identity: "certificate-controller", source: "certificate-controller", when: signing, build: func(p parts) (runner, error) {
			s := csrsigning.Signer{CA: p.material.signCert, Key: p.material.signKey, Duration: p.config.ClusterSigningDuration}
			return of(csrsigning.New(csrsigning.Config{Parts: p.Parts, Signers: map[string]csrsigning.Signer{
				certs.KubeletServingSignerName: s, certs.KubeAPIServerClientKubeletSignerName: s, certs.KubeAPIServerClientSignerName: s,
				"kubernetes.io/legacy-unknown": s,
			}}))
		}},
		{name: "certificatesigningrequest-approving-controller", alias: "csrapproving", identity: "certificate-controller", source: "certificate-controller", build: func(p parts) (runner, error) {
			return of(csrapproving.New(csrapproving.Config{Parts: p.Parts}))
		}},
		{name: "certificatesigningrequest-cleaner-controller", alias: "csrcleaner", identity: "certificate-controller", source: "certificate-controller", build: func(p parts) (runner, error) {
			return of(csrcleaner.New(csrcleaner.Config{Parts: p.Parts}))
		}},
		{name: "podcertificaterequest-cleaner-controller", alias: "podcertificaterequest-cleaner", identity: "podcertificaterequestcleaner", source: "podcertificaterequest-cleaner-controller", build: func(p parts) (runner, error) {
			return of(csrcleaner.NewPods(csrcleaner.Config{Parts: p.Parts}))
		}},
		{name: "bootstrap-signer-controller", alias: "bootstrapsigner", identity: "bootstrap-signer", source: "bootstrap-signer", build: func(p parts) (runner, error) {
			return of(bootstrapsigner.New(bootstrapsigner.Config{Parts: p.Parts}))
		}},
		{name: "token-cleaner-controller", alias: "tokencleaner", identity: "token-cleaner", source: "token-cleaner", build: func(p parts) (runner, error) {
			return of(tokencleaner.New(tokencleaner.Config{Parts: p.Parts}))
		}},
		{name: "clusterrole-aggregation-controller", alias: "clusterrole-aggregation", identity: "clusterrole-aggregation-controller", source: "clusterrole-aggregation-controller", build: func(p parts) (runner, error) {
			return of(clusterroleaggregation.New(clusterroleaggregation.Config{Parts: p.Parts}))
		}},
		{name: "legacy-serviceaccount-token-cleaner-controller", alias: "legacy-service-account-token-cleaner", identity: "legacy-service-account-token-cleaner", source: "legacy-service-account-token-cleaner", build: func(p parts) (runner, error) {
			return of(legacytokencleaner.New(legacytokencleaner.Config{Parts: p.Parts}))
		}},
		{name: "validatingadmissionpolicy-status-controller", alias: "validatingadmissionpolicy-status", identity: "validatingadmissionpolicy-status-controller", source: "validatingadmissionpolicy-status-controller", build: func(p parts) (runner, error) {
			return of(vapstatus.New(vapstatus.Config{Parts: p.Parts}))
		}},
	}
}

// services controllers keep what Services point to.
func services() []entry {
	return []entry{
		{name: "endpointslice-controller", alias: "endpointslice", identity: "endpointslice-controller", source: "endpoint-slice-controller", build: func(p parts) (runner, error) {
			return of(endpointslice.New(endpointslice.Config{Parts: p.Parts}))
		}},
		{name: "endpoints-controller", alias: "endpoint", identity: "endpoint-controller", source: "endpoint-controller", build: func(p parts) (runner, error) {
			return of(endpoints.New(endpoints.Config{Parts: p.Parts}))
		}},
		{name: "endpointslice-mirroring-controller", alias: "endpointslicemirroring", identity: "endpointslicemirroring-controller", source: "endpoint-slice-mirroring-controller", build: func(p parts) (runner, error) {
			return of(endpointslicemirroring.New(endpointslicemirroring.Config{Parts: p.Parts}))
		}},
		{name: "dns-endpoints-controller", alias: "dns-endpoints", identity: "dns-endpoints-controller", source: "dns-endpoints-controller", build: func(p parts) (runner, error) {
			return of(dnsendpoints.New(dnsendpoints.Config{Parts: p.Parts}))
		}},
		{name: "service-cidr-controller", alias: "service-cidr", identity: "service-cidrs-controller", source: "service-cidrs-controller", build: func(p parts) (runner, error) {
			return of(servicecidr.New(servicecidr.Config{Parts: p.Parts}))
		}},
	}
}

// workloads controllers make pods.
func workloads() []entry {
	return []entry{
		{name: "deployment-controller", alias: "deployment", identity: "deployment-controller", source: "deployment-controller", build: func(p parts) (runner, error) {
			return of(deployment.New(deployment.Config{Parts: p.Parts}))
		}},
		{name: "replicaset-controller", alias: "replicaset", identity: "replicaset-controller", source: "replicaset-controller", build: func(p parts) (runner, error) {
			return of(replicaset.New(replicaset.Config{Parts: p.Parts}))
		}},
		{name: "replicationcontroller-controller", alias: "replicationcontroller", identity: "replication-controller", source: "replication-controller", build: func(p parts) (runner, error) {
			return of(replicationcontroller.New(replicationcontroller.Config{Parts: p.Parts}))
		}},
		{name: "job-controller", alias: "job", identity: "job-controller", source: "job-controller", build: func(p parts) (runner, error) {
			return of(job.New(job.Config{Parts: p.Parts}))
		}},
		{name: "cronjob-controller", alias: "cronjob", identity: "cronjob-controller", source: "cronjob-controller", build: func(p parts) (runner, error) {
			return of(cronjob.New(cronjob.Config{Parts: p.Parts}))
		}},
		{name: "daemonset-controller", alias: "daemonset", identity: "daemon-set-controller", source: "daemonset-controller", build: func(p parts) (runner, error) {
			return of(daemonset.New(daemonset.Config{Parts: p.Parts}))
		}},
		{name: "statefulset-controller", alias: "statefulset", identity: "statefulset-controller", source: "statefulset-controller", build: func(p parts) (runner, error) {
			return of(statefulset.New(statefulset.Config{Parts: p.Parts}))
		}},
		{name: "disruption-controller", alias: "disruption", identity: "disruption-controller", source: "controllermanager", build: func(p parts) (runner, error) {
			scale, err := p.scaler()
			if err != nil {
				return nil, err
			}
			return of(disruption.New(disruption.Config{Parts: p.Parts, Scale: scale}))
		}},
		{name: "horizontal-pod-autoscaler-controller", alias: "horizontalpodautoscaling", identity: "horizontal-pod-autoscaler", source: "horizontal-pod-autoscaler", build: func(p parts) (runner, error) {
			scales, mapper, err := p.scales()
			if err != nil {
				return nil, err
			}
			client, err := metrics.NewForConfig(p.rest)
			if err != nil {
				return nil, err
			}
			others, err := external_metrics.NewForConfig(p.rest)
			if err != nil {
				return nil, err
			}
			versions := custom_metrics.NewAvailableAPIsGetter(p.Client.Discovery())
			custom := custom_metrics.NewForConfig(p.rest, mapper, versions)
			return of(horizontalpodautoscaling.New(horizontalpodautoscaling.Config{
				Parts: p.Parts, Scales: scales, Mapper: mapper, Metrics: client, Custom: custom, External: others, Forget: versions.Invalidate}))
		}},
		{name: "resourcequota-controller", alias: "resourcequota", identity: "resourcequota-controller", source: "resourcequota-controller", build: func(p parts) (runner, error) {
			client, err := p.metadata()
			if err != nil {
				return nil, err
			}
			return of(resourcequota.New(resourcequota.Config{Parts: p.Parts, Metadata: client}))
		}},
	}
}

// storage controllers keep volumes and claims.
func storage() []entry {
	return []entry{
		{name: "persistentvolume-binder-controller", alias: "persistentvolume-binder", identity: "persistent-volume-binder", source: "persistentvolume-controller", build: func(p parts) (runner, error) {
			return of(pvbinder.New(pvbinder.Config{Parts: p.Parts}))
		}},
		{name: "persistentvolume-protection-controller", alias: "pv-protection", identity: "pv-protection-controller", source: "pv-protection-controller", build: func(p parts) (runner, error) {
			return of(pvprotection.New(pvprotection.Config{Parts: p.Parts}))
		}},
		{name: "persistentvolumeclaim-protection-controller", alias: "pvc-protection", identity: "pvc-protection-controller", source: "pvc-protection-controller", build: func(p parts) (runner, error) {
			return of(pvcprotection.New(pvcprotection.Config{Parts: p.Parts}))
		}},
		{name: "persistentvolume-attach-detach-controller", alias: "attachdetach", identity: "attachdetach-controller", source: "attachdetach-controller", build: func(p parts) (runner, error) {
			return of(attachdetach.New(attachdetach.Config{Parts: p.Parts}))
		}},
		{name: "persistentvolume-expander-controller", alias: "persistentvolume-expander", identity: "expand-controller", source: "volume_expand", build: func(p parts) (runner, error) {
			return of(expand.New(expand.Config{Parts: p.Parts}))
		}},
		{name: "ephemeral-volume-controller", alias: "ephemeral-volume", identity: "ephemeral-volume-controller", source: "ephemeral_volume", build: func(p parts) (runner, error) {
			return of(ephemeralvolume.New(ephemeralvolume.Config{Parts: p.Parts}))
		}},
		{name: "volumeattributesclass-protection-controller", alias: "volumeattributesclass-protection", identity: "volumeattributesclass-protection-controller", source: "volumeattributesclass-protection-controller", build: func(p parts) (runner, error) {
			return of(vacprotection.New(vacprotection.Config{Parts: p.Parts}))
		}},
		{name: "resourceclaim-controller", alias: "resource-claim-controller", identity: "resource-claim-controller", source: "resource_claim", build: func(p parts) (runner, error) {
			return of(resourceclaim.New(resourceclaim.Config{Parts: p.Parts}))
		}},
		{name: "local-provisioner-controller", alias: "local-provisioner", identity: "persistent-volume-binder", source: "local-provisioner",
			when: func(c Config) bool { return c.Provisioner.Directory != "" },
			build: func(p parts) (runner, error) {
				// The binder has no rights over Node objects.
				nodes, err := kubernetes.NewForConfig(access(p.config, "node-controller"))
				if err != nil {
					return nil, err
				}
				return of(localprovisioner.New(localprovisioner.Config{
					Parts: p.Parts, Nodes: nodes, Name: p.config.Provisioner.Name, Directory: p.config.Provisioner.Directory,
				}))
			}},
	}
}
