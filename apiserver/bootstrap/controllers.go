package bootstrap

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"skiff/client/ownerwatch"
)

// controllerRoles are the rights of each controller, whose service account in
// kube-system has the controller's name.
func controllerRoles() []*rbacv1.ClusterRole {
	var (
		apps    = l("apps")
		batch   = l("batch")
		storage = l("storage.k8s.io")
		tell    = rule(l("create", "patch", "update"), l("", "events.k8s.io"), l("events"))
		pods    = rule(l("create", "delete", "get", "list", "patch", "update", "watch"), coreGroup, l("pods"))
		scale   = rule(l("get"), l("*"), l("*/scale"))
	)
	c := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return role("system:controller:"+name, append(rules, tell)...)
	}
	kubelets := l("certificates.k8s.io")
	return []*rbacv1.ClusterRole{
		c("attachdetach-controller", rule(l("list", "watch", "get"), coreGroup, l("persistentvolumes", "persistentvolumeclaims", "nodes")), rule(l("patch", "update"), coreGroup, l("nodes/status")),
			rule(l("list", "watch"), coreGroup, l("pods")), rule(readWrite, storage, l("volumeattachments")), rule(read, storage, l("csidrivers", "csinodes"))),
		c("clusterrole-aggregation-controller", rule(l("escalate", "get", "list", "patch", "update", "watch"), l("rbac.authorization.k8s.io"), l("clusterroles"))),
		c("cronjob-controller", rule(l("get", "list", "update", "watch"), batch, l("cronjobs")), rule(readWrite, batch, l("jobs")), rule(l("update", "patch"), batch, l("cronjobs/status", "cronjobs/finalizers")), rule(l("list", "delete"), coreGroup, l("pods"))),
		c("daemon-set-controller", rule(read, apps, l("daemonsets")), rule(l("update", "patch"), apps, l("daemonsets/status", "daemonsets/finalizers")), rule(l("list", "watch"), coreGroup, l("nodes")), pods,
			rule(l("create"), coreGroup, l("pods/binding")), rule(readWrite, apps, l("controllerrevisions"))),
		c("deployment-controller", rule(l("get", "list", "update", "watch"), apps, l("deployments")), rule(l("update", "patch"), apps, l("deployments/status", "deployments/finalizers")),
			rule(readWrite, apps, l("replicasets")), rule(l("get", "list", "update", "watch"), coreGroup, l("pods"))),
		c("disruption-controller", rule(read, apps, l("deployments", "replicasets", "statefulsets")), rule(read, coreGroup, l("replicationcontrollers", "pods")), rule(l("patch", "update"), coreGroup, l("pods/status")),
			rule(read, l("policy"), l("poddisruptionbudgets")), rule(l("update", "patch"), l("policy"), l("poddisruptionbudgets/status")), scale),
		c("endpoint-controller", rule(read, coreGroup, l("pods", "services")), rule(readWrite, coreGroup, l("endpoints")), rule(l("create"), coreGroup, l("endpoints/restricted"))),
		c("endpointslice-controller", rule(read, coreGroup, l("nodes", "pods", "services")), rule(l("update"), coreGroup, l("services/finalizers")), rule(readWrite, l("discovery.k8s.io"), l("endpointslices")), rule(l("create"), l("discovery.k8s.io"), l("endpointslices/restricted"))),
		c("endpointslicemirroring-controller", rule(read, coreGroup, l("endpoints", "services")), rule(l("update"), coreGroup, l("services/finalizers", "endpoints/finalizers")), rule(readWrite, l("discovery.k8s.io"), l("endpointslices")), rule(l("create"), l("discovery.k8s.io"), l("endpointslices/restricted"))),
		c("dns-endpoints-controller", rule(read, coreGroup, l("nodes", "services")), rule(readWrite, l("discovery.k8s.io"), l("endpointslices")), rule(readWrite, coreGroup, l("endpoints"))),
		c("ephemeral-volume-controller", rule(read, coreGroup, l("pods")), rule(l("update"), coreGroup, l("pods/finalizers")), rule(l("create", "get", "list", "watch"), coreGroup, l("persistentvolumeclaims"))),
		c("expand-controller", rule(l("get", "list", "patch", "update", "watch"), coreGroup, l("persistentvolumes", "persistentvolumeclaims")), rule(l("update", "patch"), coreGroup, l("persistentvolumeclaims/status")), rule(read, storage, l("storageclasses"))),
		c("generic-garbage-collector", rule(l("delete", "get", "list", "patch", "update", "watch"), l("*"), l("*")), rbacv1.PolicyRule{Verbs: l("get"), NonResourceURLs: l(ownerwatch.Path)}),
		c("horizontal-pod-autoscaler", rule(read, l("autoscaling"), l("horizontalpodautoscalers")), rule(l("update", "patch"), l("autoscaling"), l("horizontalpodautoscalers/status")),
			rule(l("get", "update"), l("*"), l("*/scale")), rule(l("list"), coreGroup, l("pods")), rule(l("list", "watch"), coreGroup, l("pods")), rule(l("list", "get"), l("metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io"), l("*"))),
		c("job-controller", rule(l("get", "list", "patch", "update", "watch"), batch, l("jobs")), rule(l("update", "patch"), batch, l("jobs/status", "jobs/finalizers")), pods),
		c("namespace-controller", rule(l("delete", "get", "list", "watch", "update"), coreGroup, l("namespaces")), rule(l("update", "patch"), coreGroup, l("namespaces/finalize", "namespaces/status")), rule(l("delete", "deletecollection", "get", "list"), l("*"), l("*"))),
		c("node-controller", rule(readWrite, coreGroup, l("nodes")), rule(l("patch", "update"), coreGroup, l("nodes/status")), rule(l("patch", "update"), coreGroup, l("pods/status")), rule(l("delete", "list", "get", "watch"), coreGroup, l("pods")),
			rule(readWrite, l("coordination.k8s.io"), l("leases")), rule(read, l("networking.k8s.io"), l("clustercidrs"))),
		c("device-taint-eviction-controller", rule(l("delete", "get", "list", "watch"), coreGroup, l("pods")), rule(l("patch", "update"), coreGroup, l("pods/status")),
			rule(read, l("resource.k8s.io"), l("resourceclaims", "resourceslices", "devicetaintrules")), rule(l("patch", "update"), l("resource.k8s.io"), l("devicetaintrules/status"))),
		c("taint-eviction-controller", rule(read, coreGroup, l("nodes")), rule(l("delete", "get", "list", "watch"), coreGroup, l("pods")), rule(l("patch", "update"), coreGroup, l("pods/status"))),
		c("persistent-volume-binder", rule(readWrite, coreGroup, l("persistentvolumes")), rule(l("update", "patch"), coreGroup, l("persistentvolumes/status", "persistentvolumeclaims/status")), rule(l("get", "list", "update", "watch", "patch"), coreGroup, l("persistentvolumeclaims")),
			rule(l("create", "delete", "get", "list", "watch"), coreGroup, l("pods")), rule(read, storage, l("storageclasses")), rule(read, coreGroup, l("nodes"))),
		c("pod-garbage-collector", rule(l("delete", "list", "watch", "get"), coreGroup, l("pods")), rule(read, coreGroup, l("nodes")), rule(l("patch"), coreGroup, l("pods/status"))),
		c("pv-protection-controller", rule(l("get", "list", "update", "watch"), coreGroup, l("persistentvolumes"))),
		c("pvc-protection-controller", rule(l("get", "list", "update", "watch"), coreGroup, l("persistentvolumeclaims")), rule(read, coreGroup, l("pods"))),
		c("replicaset-controller", rule(l("get", "list", "update", "watch"), apps, l("replicasets")), rule(l("update", "patch"), apps, l("replicasets/status", "replicasets/finalizers")), pods),
		c("replication-controller", rule(l("get", "list", "update", "watch"), coreGroup, l("replicationcontrollers")), rule(l("update", "patch"), coreGroup, l("replicationcontrollers/status", "replicationcontrollers/finalizers")), pods),
		c("resource-claim-controller", rule(read, coreGroup, l("pods")), rule(l("update"), coreGroup, l("pods/finalizers")), rule(l("patch", "update"), coreGroup, l("pods/status")), rule(readWrite, l("resource.k8s.io"), l("resourceclaims", "resourceclaims/status")), rule(l("update", "patch"), l("resource.k8s.io"), l("resourceclaims/binding")), rule(read, l("resource.k8s.io"), l("resourceclaimtemplates"))),
		c("resourcequota-controller", rule(l("list", "watch"), l("*"), l("*")), rule(l("update", "patch"), coreGroup, l("resourcequotas/status"))),
		c("root-ca-cert-publisher", rule(l("create", "get", "list", "update", "watch"), coreGroup, l("configmaps")), rule(read, coreGroup, l("namespaces"))),
		c("service-account-controller", rule(l("create", "get", "list", "watch"), coreGroup, l("serviceaccounts")), rule(read, coreGroup, l("namespaces"))),
		c("tokens-controller", rule(readWrite, coreGroup, l("secrets")), rule(l("get", "list", "update", "watch"), coreGroup, l("serviceaccounts"))),
		c("legacy-service-account-token-cleaner", rule(l("get", "list", "watch"), coreGroup, l("pods", "serviceaccounts")), rule(l("delete", "get", "list", "patch", "watch"), coreGroup, l("secrets")), rule(l("get"), coreGroup, l("configmaps"))),
		c("service-cidrs-controller", rule(l("get", "list", "patch", "update", "watch"), l("networking.k8s.io"), l("servicecidrs", "servicecidrs/finalizers", "servicecidrs/status")), rule(read, l("networking.k8s.io"), l("ipaddresses"))),
		c("service-controller", rule(read, coreGroup, l("services")), rule(l("patch", "update"), coreGroup, l("services/status", "services")), rule(l("list", "watch"), coreGroup, l("nodes"))),
		c("route-controller", rule(l("list", "watch"), coreGroup, l("nodes")), rule(l("patch"), coreGroup, l("nodes/status"))),
		c("statefulset-controller", rule(read, apps, l("statefulsets")), rule(l("update", "patch"), apps, l("statefulsets/status", "statefulsets/finalizers")), pods, rule(readWrite, apps, l("controllerrevisions")), rule(l("create", "get", "list", "watch", "update", "delete", "patch"), coreGroup, l("persistentvolumeclaims"))),
		c("storage-version-garbage-collector", rule(l("get"), l("coordination.k8s.io"), l("leases")), rule(l("list", "delete", "get", "watch"), l("internal.apiserver.k8s.io"), l("storageversions"))),
		c("ttl-controller", rule(l("list", "patch", "update", "watch"), coreGroup, l("nodes"))),
		c("ttl-after-finished-controller", rule(l("delete", "get", "list", "watch"), batch, l("jobs"))),
		// Objects of every kind are written as they are.
		c("storage-version-migrator-controller", rule(l("list", "create", "patch"), l("*"), l("*")), rule(read, l("storagemigration.k8s.io"), l("storageversionmigrations")), rule(l("update"), l("storagemigration.k8s.io"), l("storageversionmigrations/status"))),
		c("validatingadmissionpolicy-status-controller", rule(read, l("admissionregistration.k8s.io"), l("validatingadmissionpolicies")), rule(l("get", "patch", "update"), l("admissionregistration.k8s.io"), l("validatingadmissionpolicies/status"))),
		c("certificate-controller", rule(l("delete", "get", "list", "watch"), kubelets, l("certificatesigningrequests")), rule(l("update"), kubelets, l("certificatesigningrequests/approval", "certificatesigningrequests/status")),
			rule(l("approve"), kubelets, l("signers"), "kubernetes.io/kube-apiserver-client-kubelet"),
			rule(l("sign"), kubelets, l("signers"), "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving", "kubernetes.io/legacy-unknown"),
			rule(l("create"), l("authorization.k8s.io"), l("subjectaccessreviews"))),
		c("volumeattributesclass-protection-controller", rule(l("get", "list", "watch", "update"), storage, l("volumeattributesclasses")), rule(read, coreGroup, l("persistentvolumeclaims", "persistentvolumes"))),
		c("bootstrap-signer"), c("token-cleaner"),
		c("node-ipam-controller", rule(l("get", "list", "patch", "update", "watch"), coreGroup, l("nodes")), rule(l("patch", "update"), coreGroup, l("nodes/status"))),
	}
}
