package bootstrap

import (
	rbacv1 "k8s.io/api/rbac/v1"

	"skiff/client/ownerwatch"
)

// controllerRoles are upstream's rights of each controller, whose service account
// in kube-system has the controller's name.
func controllerRoles() []*rbacv1.ClusterRole {
	c := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return role("system:controller:"+name, rules...)
	}
	return []*rbacv1.ClusterRole{
		c("attachdetach-controller", rule(follow, coreGroup, l("persistentvolumeclaims", "persistentvolumes")), rule(read, coreGroup, l("nodes")),
			rule(amend, coreGroup, l("nodes/status")), rule(follow, coreGroup, l("pods")), tell,
			rule(l("create", "delete", "get", "list", "watch"), storage, l("volumeattachments")), rule(read, storage, l("csidrivers")),
			rule(read, storage, l("csinodes"))),
		c("certificate-controller", rule(l("delete", "get", "list", "watch"), certs, l("certificatesigningrequests")),
			rule(update, certs, l("certificatesigningrequests/approval", "certificatesigningrequests/status")),
			rule(l("approve"), certs, l("signers"), "kubernetes.io/kube-apiserver-client-kubelet"),
			rule(l("sign"), certs, l("signers"), "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving", "kubernetes.io/legacy-unknown"),
			rule(create, authorize, l("subjectaccessreviews")), tell),
		c("clusterrole-aggregation-controller", rule(l("escalate", "get", "list", "patch", "update", "watch"), rbac, l("clusterroles"))),
		c("cronjob-controller", rule(l("get", "list", "update", "watch"), batch, l("cronjobs")),
			rule(l("create", "delete", "get", "list", "patch", "update", "watch"), batch, l("jobs")), rule(update, batch, l("cronjobs/status")),
			rule(update, batch, l("cronjobs/finalizers")), rule(l("delete", "list", "watch"), coreGroup, l("pods")), tell),
		c("daemon-set-controller", rule(read, workloads, l("daemonsets")), rule(update, workloads, l("daemonsets/status")),
			rule(update, workloads, l("daemonsets/finalizers")), rule(follow, coreGroup, l("nodes")),
			rule(l("create", "delete", "list", "patch", "watch"), coreGroup, l("pods")), rule(create, coreGroup, l("pods/binding")),
			rule(l("create", "delete", "get", "list", "patch", "update", "watch"), apps, l("controllerrevisions")), tell),
		c("deployment-controller", rule(l("get", "list", "update", "watch"), workloads, l("deployments")), rule(update, workloads, l("deployments/status")),
			rule(update, workloads, l("deployments/finalizers")),
			rule(l("create", "delete", "get", "list", "patch", "update", "watch"), workloads, l("replicasets")),
			rule(l("get", "list", "update", "watch"), coreGroup, l("pods")), tell),
		c("device-taint-eviction-controller", rule(l("delete", "get", "list", "watch"), coreGroup, l("pods")), rule(amend, coreGroup, l("pods/status")),
			rule(read, resource, l("resourceclaims")), rule(read, resource, l("resourceslices")), rule(read, resource, l("deviceclasses")), tell,
			rule(amend, resource, l("devicetaintrules/status")), rule(read, resource, l("devicetaintrules"))),
		c("disruption-controller", rule(read, workloads, l("deployments")), rule(read, workloads, l("replicasets")),
			rule(read, coreGroup, l("replicationcontrollers")), rule(read, policy, l("poddisruptionbudgets")), rule(read, apps, l("statefulsets")),
			rule(update, policy, l("poddisruptionbudgets/status")), rule(amend, coreGroup, l("pods/status")), rule(get, all, l("*/scale")), tell),
		c("endpoint-controller", rule(read, coreGroup, l("pods", "services")),
			rule(l("create", "delete", "get", "list", "update", "watch"), coreGroup, l("endpoints")), rule(create, coreGroup, l("endpoints/restricted")), tell),
		c("endpointslice-controller", rule(read, coreGroup, l("nodes", "pods", "services")), rule(update, coreGroup, l("services/finalizers")),
			rule(l("create", "delete", "get", "list", "update", "watch"), discovery, l("endpointslices")), tell),
		c("endpointslicemirroring-controller", rule(read, coreGroup, l("endpoints", "services")), rule(update, coreGroup, l("services/finalizers")),
			rule(update, coreGroup, l("endpoints/finalizers")), rule(l("create", "delete", "get", "list", "update", "watch"), discovery, l("endpointslices")),
			tell),
		c("ephemeral-volume-controller", rule(read, coreGroup, l("pods")), rule(update, coreGroup, l("pods/finalizers")),
			rule(l("create", "get", "list", "watch"), coreGroup, l("persistentvolumeclaims")), tell),
		c("expand-controller", rule(l("get", "list", "patch", "update", "watch"), coreGroup, l("persistentvolumes")),
			rule(amend, coreGroup, l("persistentvolumeclaims/status")), rule(read, coreGroup, l("persistentvolumeclaims")), tell),
		c("generic-garbage-collector", rule(l("delete", "get", "list", "patch", "update", "watch"), all, all), tell),
		c("horizontal-pod-autoscaler", rule(read, autoscale, l("horizontalpodautoscalers")), rule(update, autoscale, l("horizontalpodautoscalers/status")),
			rule(l("get", "update"), all, l("*/scale")), rule(follow, coreGroup, l("pods")), rule(follow, l("metrics.k8s.io"), l("pods")),
			rule(read, l("custom.metrics.k8s.io"), all), rule(read, l("external.metrics.k8s.io"), all), tell),
		c("job-controller", rule(l("get", "list", "patch", "update", "watch"), batch, l("jobs")), rule(update, batch, l("jobs/status")),
			rule(update, batch, l("jobs/finalizers")), rule(l("create", "delete", "list", "patch", "watch"), coreGroup, l("pods")), tell),
		c("kube-apiserver-serving-clustertrustbundle-publisher", rule(l("attest"), certs, l("signers"), "kubernetes.io/kube-apiserver-serving"),
			rule(l("create", "delete", "list", "update", "watch"), certs, l("clustertrustbundles")), tell),
		c("legacy-service-account-token-cleaner", rule(get, coreGroup, l("configmaps"), "kube-apiserver-legacy-service-account-token-tracking"),
			rule(l("delete", "patch"), coreGroup, l("secrets"))),
		c("namespace-controller", rule(l("delete", "get", "list", "watch"), coreGroup, l("namespaces")),
			rule(update, coreGroup, l("namespaces/finalize", "namespaces/status")), rule(l("delete", "deletecollection", "get", "list", "watch"), all, all)),
		c("node-controller", rule(l("delete", "get", "list", "patch", "update", "watch"), coreGroup, l("nodes")), rule(amend, coreGroup, l("nodes/status")),
			rule(amend, coreGroup, l("pods/status")), rule(l("delete", "get", "list", "watch"), coreGroup, l("pods")), rule(read, leases, l("leases")), tell),
		c("persistent-volume-binder", rule(l("create", "delete", "get", "list", "update", "watch"), coreGroup, l("persistentvolumes")),
			rule(update, coreGroup, l("persistentvolumes/status")), rule(l("get", "list", "update", "watch"), coreGroup, l("persistentvolumeclaims")),
			rule(update, coreGroup, l("persistentvolumeclaims/status")), rule(l("create", "delete", "get", "list", "watch"), coreGroup, l("pods")),
			rule(read, storage, l("storageclasses")), rule(follow, coreGroup, l("nodes")), tell, rule(l("watch"), coreGroup, l("events"))),
		c("pod-garbage-collector", rule(l("delete", "list", "watch"), coreGroup, l("pods")), rule(read, coreGroup, l("nodes")),
			rule(l("patch"), coreGroup, l("pods/status"))),
		c("podcertificaterequestcleaner", rule(l("delete", "get", "list", "watch"), certs, l("podcertificaterequests"))),
		c("pv-protection-controller", rule(l("get", "list", "update", "watch"), coreGroup, l("persistentvolumes")), tell),
		c("pvc-protection-controller", rule(l("get", "list", "update", "watch"), coreGroup, l("persistentvolumeclaims")),
			rule(update, coreGroup, l("persistentvolumeclaims/status")), rule(read, coreGroup, l("pods")), tell),
		c("replicaset-controller", rule(l("get", "list", "update", "watch"), workloads, l("replicasets")), rule(update, workloads, l("replicasets/status")),
			rule(update, workloads, l("replicasets/finalizers")), rule(l("create", "delete", "list", "patch", "watch"), coreGroup, l("pods")), tell),
		c("replication-controller", rule(l("get", "list", "update", "watch"), coreGroup, l("replicationcontrollers")),
			rule(update, coreGroup, l("replicationcontrollers/status")), rule(update, coreGroup, l("replicationcontrollers/finalizers")),
			rule(l("create", "delete", "list", "patch", "watch"), coreGroup, l("pods")), tell),
		c("resource-claim-controller", rule(read, coreGroup, l("pods")), rule(update, coreGroup, l("pods/finalizers")),
			rule(l("create", "delete", "get", "list", "watch"), resource, l("resourceclaims")),
			rule(amend, resource, l("resourceclaims", "resourceclaims/status")), rule(amend, coreGroup, l("pods/status")), tell,
			rule(amend, resource, l("resourceclaims/binding"))),
		c("resourcequota-controller", rule(follow, all, all), rule(update, coreGroup, l("resourcequotas/status")), tell),
		c("root-ca-cert-publisher", rule(l("create", "update"), coreGroup, l("configmaps")), tell),
		c("route-controller", rule(follow, coreGroup, l("nodes")), rule(l("patch"), coreGroup, l("nodes/status")), tell),
		c("selinux-warning-controller", tell, rule(read, coreGroup, l("persistentvolumes")), rule(read, coreGroup, l("persistentvolumeclaims")),
			rule(read, coreGroup, l("pods")), rule(read, storage, l("csidrivers"))),
		c("service-account-controller", rule(create, coreGroup, l("serviceaccounts")), tell),
		c("service-cidrs-controller", rule(l("get", "list", "patch", "update", "watch"), networking, l("servicecidrs")),
			rule(amend, networking, l("servicecidrs/finalizers")), rule(amend, networking, l("servicecidrs/status")), rule(read, networking, l("ipaddresses")),
			tell),
		c("service-controller", rule(read, coreGroup, l("services")), rule(amend, coreGroup, l("services/status")), rule(follow, coreGroup, l("nodes")), tell),
		c("statefulset-controller", rule(follow, coreGroup, l("pods")), rule(read, apps, l("statefulsets")), rule(update, apps, l("statefulsets/status")),
			rule(update, apps, l("statefulsets/finalizers")), rule(l("create", "delete", "get", "patch", "update"), coreGroup, l("pods")),
			rule(l("create", "delete", "get", "list", "patch", "update", "watch"), apps, l("controllerrevisions")),
			rule(l("create", "get", "list", "watch"), coreGroup, l("persistentvolumeclaims")),
			rule(l("delete", "update"), coreGroup, l("persistentvolumeclaims")), rule(update, coreGroup, l("pods/finalizers")), tell),
		c("storage-version-migrator-controller", rule(l("list", "patch"), all, all), rule(get, l("apiextensions.k8s.io"), l("customresourcedefinitions")),
			rule(l("patch"), l("apiextensions.k8s.io"), l("customresourcedefinitions/status")), rule(update, l("storagemigration.k8s.io"), l("storageversionmigrations/status"))),
		c("ttl-after-finished-controller", rule(l("delete", "get", "list", "watch"), batch, l("jobs")), tell),
		c("ttl-controller", rule(l("list", "patch", "update", "watch"), coreGroup, l("nodes")), tell),
		c("validatingadmissionpolicy-status-controller", rule(read, admission, l("validatingadmissionpolicies")),
			rule(l("get", "patch", "update"), admission, l("validatingadmissionpolicies/status")), tell),
		c("volumeattributesclass-protection-controller", rule(read, coreGroup, l("persistentvolumeclaims")), rule(read, coreGroup, l("persistentvolumes")),
			rule(l("get", "list", "update", "watch"), storage, l("volumeattributesclasses")), tell),
	}
}

// ownControllerRoles are the rights of controllers beyond upstream's, by the name
// of their service account.
func ownControllerRoles() map[string]*rbacv1.ClusterRole {
	c := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return role("skiff:controller:"+name, rules...)
	}
	return map[string]*rbacv1.ClusterRole{
		// The cluster's DNS is no Deployment with a Service that selects it.
		"dns-endpoints-controller": c("dns-endpoints-controller", rule(read, coreGroup, l("nodes", "services")), rule(readWrite, discovery, l("endpointslices")),
			rule(readWrite, coreGroup, l("endpoints"))),
		// Owners are watched in one stream in place of one for each kind.
		"generic-garbage-collector": c("generic-garbage-collector", paths(ownerwatch.Path)),
		"cloud-controller-manager": role("skiff:cloud-controller-manager", rule(l("delete", "get", "list", "patch", "update", "watch"), coreGroup, l("nodes")),
			rule(amend, coreGroup, l("nodes/status", "services/status")),
			rule(l("get", "list", "patch", "update", "watch"), coreGroup, l("services")),
			tell, rule(l("create", "get", "update"), leases, l("leases"))),
	}
}
