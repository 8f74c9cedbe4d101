package bootstrap

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func aggregated(name, from string, into map[string]string) *rbacv1.ClusterRole {
	m := defaults(name)
	for k, v := range into {
		m.Labels[k] = v
	}
	return &rbacv1.ClusterRole{ObjectMeta: m, AggregationRule: &rbacv1.AggregationRule{
		ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{from: "true"}}}}}
}

func into(label string, r *rbacv1.ClusterRole) *rbacv1.ClusterRole {
	r.Labels[label] = "true"
	return r
}

// clusterRoles are upstream's default roles, and skiff's own.
func clusterRoles() []*rbacv1.ClusterRole {
	return slices.Concat(userRoles(), componentRoles(), controllerRoles(), ownRoles(), slices.Collect(maps.Values(ownControllerRoles())))
}

// userRoles are given to people and their workloads.
func userRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		aggregated("admin", toAdmin, nil),
		aggregated("edit", toEdit, map[string]string{toAdmin: "true"}),
		aggregated("view", toView, map[string]string{toEdit: "true"}),
		into(toAdmin, role("system:aggregate-to-admin", rule(create, authorize, l("localsubjectaccessreviews")), rule(readWrite, rbac, l("rolebindings", "roles")))),
		into(toEdit, role("system:aggregate-to-edit", rule(read, coreGroup, l("pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy")),
			rule(l("impersonate"), coreGroup, l("serviceaccounts")),
			rule(write, coreGroup, l("pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy")), rule(create, coreGroup, l("pods/eviction")),
			rule(write, coreGroup, l("configmaps", "persistentvolumeclaims", "replicationcontrollers", "replicationcontrollers/scale", "secrets", "serviceaccounts", "services", "services/proxy")),
			rule(create, coreGroup, l("serviceaccounts/token")), rule(write, l("", "events.k8s.io"), l("events")),
			rule(write, apps, l("daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale")),
			rule(write, autoscale, l("horizontalpodautoscalers")), rule(write, batch, l("cronjobs", "jobs")),
			rule(write, extensions, l("daemonsets", "deployments", "deployments/rollback", "deployments/scale", "ingresses", "networkpolicies", "replicasets", "replicasets/scale", "replicationcontrollers/scale")),
			rule(write, policy, l("poddisruptionbudgets")), rule(write, networking, l("ingresses", "networkpolicies")), rule(readWrite, leases, l("leases")),
			rule(write, resource, l("resourceclaims", "resourceclaimtemplates")))),
		into(toView, role("system:aggregate-to-view",
			rule(read, coreGroup, l("configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods", "replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services", "services/status")),
			rule(read, coreGroup, l("bindings", "limitranges", "namespaces/status", "pods/log", "pods/status", "replicationcontrollers/status", "resourcequotas", "resourcequotas/status")),
			rule(read, coreGroup, l("namespaces")), rule(read, l("", "events.k8s.io"), l("events")), rule(read, discovery, l("endpointslices")),
			rule(read, apps, l("controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status", "replicasets", "replicasets/scale", "replicasets/status", "statefulsets", "statefulsets/scale", "statefulsets/status")),
			rule(read, autoscale, l("horizontalpodautoscalers", "horizontalpodautoscalers/status")),
			rule(read, batch, l("cronjobs", "cronjobs/status", "jobs", "jobs/status")),
			rule(read, extensions, l("daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status", "ingresses", "ingresses/status", "networkpolicies", "replicasets", "replicasets/scale", "replicasets/status", "replicationcontrollers/scale")),
			rule(read, policy, l("poddisruptionbudgets", "poddisruptionbudgets/status")),
			rule(read, networking, l("ingresses", "ingresses/status", "networkpolicies")),
			rule(read, resource, l("resourceclaims", "resourceclaims/status", "resourceclaimtemplates")))),
		role("cluster-admin", rule(all, all, all), rbacv1.PolicyRule{Verbs: all, NonResourceURLs: all}),
		role("system:basic-user", rule(create, authorize, l("selfsubjectaccessreviews", "selfsubjectrulesreviews")), rule(create, authentic, l("selfsubjectreviews"))),
		role("system:cluster-trust-bundle-discovery", rule(read, certs, l("clustertrustbundles"))),
		role("system:discovery",
			paths("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/")),
		role("system:monitoring",
			paths("/flagz", "/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*", "/statusz"),
			rule(get, coreGroup, l("nodes/metrics"))),
		role("system:public-info-viewer", paths("/healthz", "/livez", "/readyz", "/version", "/version/")),
		role("system:service-account-issuer-discovery",
			paths("/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/")),
	}
}

// componentRoles are those of the cluster's parts.
func componentRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		role("system:auth-delegator", rule(create, authentic, l("tokenreviews")), rule(create, authorize, l("subjectaccessreviews"))),
		role("system:certificates.k8s.io:certificatesigningrequests:nodeclient", rule(create, certs, l("certificatesigningrequests/nodeclient"))),
		role("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", rule(create, certs, l("certificatesigningrequests/selfnodeclient"))),
		role("system:certificates.k8s.io:kube-apiserver-client-approver", rule(l("approve"), certs, l("signers"), "kubernetes.io/kube-apiserver-client")),
		role("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
			rule(l("approve"), certs, l("signers"), "kubernetes.io/kube-apiserver-client-kubelet")),
		role("system:certificates.k8s.io:kubelet-serving-approver", rule(l("approve"), certs, l("signers"), "kubernetes.io/kubelet-serving")),
		role("system:certificates.k8s.io:legacy-unknown-approver", rule(l("approve"), certs, l("signers"), "kubernetes.io/legacy-unknown")),
		role("system:heapster", rule(read, coreGroup, l("events", "namespaces", "nodes", "pods")), rule(read, extensions, l("deployments"))),
		role("system:kube-aggregator", rule(read, coreGroup, l("endpoints", "services"))),
		role("system:kube-controller-manager", tell, rule(create, leases, l("leases")),
			rule(l("get", "update"), leases, l("leases"), "kube-controller-manager"), rule(create, coreGroup, l("secrets", "serviceaccounts")),
			rule(l("delete"), coreGroup, l("secrets")), rule(get, coreGroup, l("configmaps", "namespaces", "secrets", "serviceaccounts")),
			rule(update, coreGroup, l("secrets", "serviceaccounts")), rule(create, authentic, l("tokenreviews")), rule(create, authorize, l("subjectaccessreviews")),
			rule(follow, all, all), rule(create, coreGroup, l("serviceaccounts/token"))),
		role("system:kube-dns", rule(follow, coreGroup, l("endpoints", "services"))),
		role("system:kube-scheduler", tell, rule(create, leases, l("leases")),
			rule(l("get", "list", "update", "watch"), leases, l("leases"), "kube-scheduler"), rule(readWrite, leases, l("leasecandidates")),
			rule(read, coreGroup, l("nodes")), rule(l("delete", "get", "list", "watch"), coreGroup, l("pods")),
			rule(create, coreGroup, l("bindings", "pods/binding")), rule(amend, coreGroup, l("pods/status")),
			rule(read, coreGroup, l("replicationcontrollers", "services")), rule(read, workloads, l("replicasets")), rule(read, apps, l("statefulsets")),
			rule(read, policy, l("poddisruptionbudgets")), rule(read, coreGroup, l("persistentvolumeclaims", "persistentvolumes")),
			rule(create, authentic, l("tokenreviews")), rule(create, authorize, l("subjectaccessreviews")), rule(read, storage, l("csinodes")),
			rule(read, storage, l("volumeattachments")), rule(read, coreGroup, l("namespaces")), rule(read, storage, l("csidrivers")),
			rule(read, storage, l("csistoragecapacities")), rule(read, resource, l("deviceclasses")),
			rule(l("get", "list", "patch", "update", "watch"), resource, l("resourceclaims")),
			rule(l("get", "list", "patch", "update", "watch"), resource, l("resourceclaims/status")), rule(update, coreGroup, l("pods/finalizers")),
			rule(read, resource, l("resourceslices")), rule(l("create", "delete"), resource, l("resourceclaims")), rule(read, resource, l("devicetaintrules")),
			rule(amend, resource, l("resourceclaims/binding"))),
		role("system:kubelet-api-admin", rule(read, coreGroup, l("nodes")), rule(l("proxy"), coreGroup, l("nodes")),
			rule(l("*"), coreGroup, l("nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats")),
			rule(l("*"), coreGroup, l("nodes/configz", "nodes/healthz", "nodes/pods"))),
		role("system:node", rule(create, authentic, l("tokenreviews")), rule(create, authorize, l("localsubjectaccessreviews", "subjectaccessreviews")),
			rule(read, coreGroup, l("services")), rule(l("create", "get", "list", "watch"), coreGroup, l("nodes")), rule(amend, coreGroup, l("nodes/status")),
			rule(amend, coreGroup, l("nodes")), tell, rule(read, coreGroup, l("pods")), rule(l("create", "delete"), coreGroup, l("pods")),
			rule(amend, coreGroup, l("pods/status")), rule(create, coreGroup, l("pods/eviction")), rule(read, coreGroup, l("configmaps", "secrets")),
			rule(get, coreGroup, l("persistentvolumeclaims", "persistentvolumes")), rule(get, coreGroup, l("endpoints")),
			rule(l("create", "get", "list", "watch"), certs, l("certificatesigningrequests")),
			rule(l("create", "delete", "get", "patch", "update"), leases, l("leases")), rule(get, storage, l("volumeattachments")),
			rule(create, coreGroup, l("serviceaccounts/token")), rule(l("get", "patch", "update"), coreGroup, l("persistentvolumeclaims/status")),
			rule(read, storage, l("csidrivers")), rule(l("create", "delete", "get", "patch", "update"), storage, l("csinodes")),
			rule(read, l("node.k8s.io"), l("runtimeclasses")), rule(get, resource, l("resourceclaims")), rule(l("deletecollection"), resource, l("resourceslices")),
			rule(read, certs, l("clustertrustbundles")), rule(get, coreGroup, l("serviceaccounts")),
			rule(l("create", "get", "list", "watch"), certs, l("podcertificaterequests"))),
		role("system:node-bootstrapper", rule(l("create", "get", "list", "watch"), certs, l("certificatesigningrequests"))),
		role("system:node-problem-detector", rule(get, coreGroup, l("nodes")), rule(l("patch"), coreGroup, l("nodes/status")), tell),
		role("system:node-proxier", rule(follow, coreGroup, l("endpoints", "services")), rule(read, coreGroup, l("nodes")), tell,
			rule(follow, networking, l("servicecidrs")), rule(follow, discovery, l("endpointslices"))),
		role("system:persistent-volume-provisioner", rule(l("create", "delete", "get", "list", "watch"), coreGroup, l("persistentvolumes")),
			rule(l("get", "list", "update", "watch"), coreGroup, l("persistentvolumeclaims")), rule(read, storage, l("storageclasses")),
			rule(l("watch"), coreGroup, l("events")), tell),
		role("system:volume-scheduler", rule(l("get", "list", "patch", "update", "watch"), coreGroup, l("persistentvolumes")),
			rule(read, storage, l("storageclasses")), rule(l("get", "list", "patch", "update", "watch"), coreGroup, l("persistentvolumeclaims"))),
	}
}

// ownRoles are what parts of skiff may do beyond upstream's roles.
func ownRoles() []*rbacv1.ClusterRole {
	return []*rbacv1.ClusterRole{
		// What runs beside the kubelet in one process (proxy, DNS, pod network) acts
		// with the node's own identity. A node could take the same rights through the
		// tokens of upstream's DaemonSets.
		role("skiff:node-agents", rule(read, coreGroup, l("endpoints", "namespaces", "nodes", "pods", "services")),
			rule(read, discovery, l("endpointslices")), rule(read, networking, l("networkpolicies", "servicecidrs"))),
	}
}

// clusterRoleBindings are upstream's default bindings, and skiff's own.
func clusterRoleBindings() []*rbacv1.ClusterRoleBinding {
	everyone := groupSubject("system:authenticated")
	out := []*rbacv1.ClusterRoleBinding{
		bind("cluster-admin", groupSubject("system:masters")),
		bind("system:monitoring", groupSubject("system:monitoring")),
		bind("system:discovery", everyone), bind("system:basic-user", everyone),
		bind("system:public-info-viewer", everyone, groupSubject("system:unauthenticated")),
		bind("system:node"),
		bind("system:node-proxier", userSubject("system:kube-proxy")),
		bind("system:kube-controller-manager", userSubject("system:kube-controller-manager")),
		bind("system:kube-dns", accountSubject("kube-dns")),
		bind("system:kube-scheduler", userSubject("system:kube-scheduler")),
		bind("system:volume-scheduler", userSubject("system:kube-scheduler")),
		bind("system:service-account-issuer-discovery", groupSubject("system:serviceaccounts")),
		bind("system:cluster-trust-bundle-discovery", groupSubject("system:serviceaccounts")),
		bind("skiff:node-agents", groupSubject("system:nodes")),
	}
	kubelets := bind("system:kubelet-api-admin", userSubject("kube-apiserver-kubelet-client"))
	kubelets.Name = "skiff:kubelet-api-admin"
	out = append(out, kubelets)
	for _, r := range controllerRoles() {
		out = append(out, bind(r.Name, accountSubject(r.Name[len("system:controller:"):])))
	}
	for account, r := range ownControllerRoles() {
		out = append(out, bind(r.Name, accountSubject(account)))
	}
	return out
}
