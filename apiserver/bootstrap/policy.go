package bootstrap

import (
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

// clusterRoles are upstream's default roles.
func clusterRoles() []*rbacv1.ClusterRole {
	var (
		apps        = l("apps")
		batch       = l("batch")
		autoscaling = l("autoscaling")
		networking  = l("networking.k8s.io")
		policy      = l("policy")
		rbac        = l("rbac.authorization.k8s.io")
		certs       = l("certificates.k8s.io")
		leases      = l("coordination.k8s.io")
		storage     = l("storage.k8s.io")
		discovery   = l("discovery.k8s.io")
		events      = l("", "events.k8s.io")
		resource    = l("resource.k8s.io")
		create      = l("create")
	)
	everything := []rbacv1.PolicyRule{rule(l("*"), l("*"), l("*")), {Verbs: l("*"), NonResourceURLs: l("*")}}
	info := rbacv1.PolicyRule{Verbs: l("get"), NonResourceURLs: l("/healthz", "/livez", "/readyz", "/version", "/version/")}
	out := []*rbacv1.ClusterRole{
		role("cluster-admin", everything...),
		role("system:discovery", rbacv1.PolicyRule{Verbs: l("get"), NonResourceURLs: l("/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz", "/version", "/version/")}),
		role("system:monitoring", rbacv1.PolicyRule{Verbs: l("get"), NonResourceURLs: l("/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*")},
			rbacv1.PolicyRule{Verbs: l("get"), NonResourceURLs: l("/flagz")}, rbacv1.PolicyRule{Verbs: l("get"), NonResourceURLs: l("/statusz")}),
		role("system:basic-user", rule(create, l("authorization.k8s.io"), l("selfsubjectaccessreviews", "selfsubjectrulesreviews")),
			rule(create, l("authentication.k8s.io"), l("selfsubjectreviews"))),
		role("system:public-info-viewer", info),
		aggregated("admin", toAdmin, nil),
		aggregated("edit", toEdit, map[string]string{toAdmin: "true"}),
		aggregated("view", toView, map[string]string{toEdit: "true"}),
		into(toAdmin, role("system:aggregate-to-admin", rule(create, l("authorization.k8s.io"), l("localsubjectaccessreviews")),
			rule(readWrite, rbac, l("rolebindings", "roles")))),
		into(toEdit, role("system:aggregate-to-edit",
			rule(read, coreGroup, l("pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy")),
			rule(l("impersonate"), coreGroup, l("serviceaccounts")),
			rule(write, coreGroup, l("pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy")),
			rule(create, coreGroup, l("pods/eviction")),
			rule(write, coreGroup, l("configmaps", "events", "persistentvolumeclaims", "replicationcontrollers", "replicationcontrollers/scale", "secrets", "serviceaccounts", "services", "services/proxy")),
			rule(create, coreGroup, l("serviceaccounts/token")),
			rule(write, apps, l("daemonsets", "deployments", "deployments/rollback", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets", "statefulsets/scale")),
			rule(write, autoscaling, l("horizontalpodautoscalers")), rule(write, batch, l("cronjobs", "jobs")),
			rule(write, policy, l("poddisruptionbudgets")), rule(write, networking, l("ingresses", "networkpolicies")),
			rule(l("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"), leases, l("leases")),
			rule(write, resource, l("resourceclaims", "resourceclaimtemplates")))),
		into(toView, role("system:aggregate-to-view",
			rule(read, coreGroup, l("configmaps", "endpoints", "persistentvolumeclaims", "persistentvolumeclaims/status", "pods", "replicationcontrollers", "replicationcontrollers/scale", "serviceaccounts", "services", "services/status")),
			rule(read, coreGroup, l("bindings", "events", "limitranges", "namespaces/status", "pods/log", "pods/status", "replicationcontrollers/status", "resourcequotas", "resourcequotas/status")),
			rule(read, coreGroup, l("namespaces")), rule(read, discovery, l("endpointslices")),
			rule(read, apps, l("controllerrevisions", "daemonsets", "daemonsets/status", "deployments", "deployments/scale", "deployments/status", "replicasets", "replicasets/scale", "replicasets/status", "statefulsets", "statefulsets/scale", "statefulsets/status")),
			rule(read, autoscaling, l("horizontalpodautoscalers", "horizontalpodautoscalers/status")),
			rule(read, batch, l("cronjobs", "cronjobs/status", "jobs", "jobs/status")),
			rule(read, policy, l("poddisruptionbudgets", "poddisruptionbudgets/status")),
			rule(read, networking, l("ingresses", "ingresses/status", "networkpolicies")),
			rule(read, resource, l("resourceclaims", "resourceclaims/status", "resourceclaimtemplates")))),
		role("system:heapster", rule(read, coreGroup, l("events", "namespaces", "nodes", "pods")), rule(read, l("extensions"), l("deployments"))),
		role("system:node", rule(create, l("authentication.k8s.io"), l("tokenreviews")), rule(create, l("authorization.k8s.io"), l("localsubjectaccessreviews", "subjectaccessreviews")),
			rule(read, coreGroup, l("services")), rule(l("create", "get", "list", "watch"), coreGroup, l("nodes")), rule(l("patch", "update"), coreGroup, l("nodes/status", "nodes")),
			rule(l("create", "patch", "update"), events, l("events")), rule(read, coreGroup, l("pods")), rule(l("create", "delete"), coreGroup, l("pods")),
			rule(l("patch", "update"), coreGroup, l("pods/status")), rule(create, coreGroup, l("pods/eviction")), rule(read, coreGroup, l("configmaps", "secrets")),
			rule(l("get"), coreGroup, l("persistentvolumeclaims", "persistentvolumes")), rule(l("create", "get", "list", "watch"), certs, l("certificatesigningrequests")),
			rule(l("create", "delete", "get", "patch", "update"), leases, l("leases")), rule(l("get"), storage, l("volumeattachments")),
			rule(create, coreGroup, l("serviceaccounts/token")), rule(read, storage, l("csidrivers")), rule(l("create", "delete", "get", "patch", "update"), storage, l("csinodes")),
			rule(read, l("node.k8s.io"), l("runtimeclasses")), rule(read, certs, l("clustertrustbundles"))),
		role("system:node-problem-detector", rule(l("get"), coreGroup, l("nodes")), rule(l("patch"), coreGroup, l("nodes/status")), rule(l("create", "patch", "update"), events, l("events"))),
		role("system:kubelet-api-admin", rule(read, coreGroup, l("nodes")), rule(l("proxy"), coreGroup, l("nodes")),
			rule(l("*"), coreGroup, l("nodes/log", "nodes/metrics", "nodes/proxy", "nodes/stats", "nodes/configz", "nodes/healthz", "nodes/pods"))),
		role("system:node-bootstrapper", rule(l("create", "get", "list", "watch"), certs, l("certificatesigningrequests"))),
		role("system:auth-delegator", rule(create, l("authentication.k8s.io"), l("tokenreviews")), rule(create, l("authorization.k8s.io"), l("subjectaccessreviews"))),
		role("system:kube-aggregator", rule(read, coreGroup, l("endpoints", "services"))),
		role("system:kube-controller-manager", everything...),
		role("system:kube-dns", rule(l("list", "watch"), coreGroup, l("endpoints", "services"))),
		role("system:persistent-volume-provisioner", rule(l("create", "delete", "get", "list", "watch"), coreGroup, l("persistentvolumes")),
			rule(l("get", "list", "update", "watch"), coreGroup, l("persistentvolumeclaims")), rule(read, storage, l("storageclasses")),
			rule(l("watch"), coreGroup, l("events")), rule(l("create", "patch", "update"), events, l("events"))),
		role("system:certificates.k8s.io:certificatesigningrequests:nodeclient", rule(create, certs, l("certificatesigningrequests/nodeclient"))),
		role("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", rule(create, certs, l("certificatesigningrequests/selfnodeclient"))),
		role("system:volume-scheduler", rule(l("get", "list", "patch", "update", "watch"), coreGroup, l("persistentvolumes")), rule(read, storage, l("storageclasses")),
			rule(l("get", "list", "patch", "update", "watch"), coreGroup, l("persistentvolumeclaims"))),
		role("system:node-proxier", rule(l("list", "watch"), coreGroup, l("endpoints", "services")), rule(read, coreGroup, l("nodes")),
			rule(l("create", "patch", "update"), events, l("events")), rule(l("list", "watch"), discovery, l("endpointslices")), rule(l("list", "watch"), networking, l("servicecidrs"))),
		role("system:kube-scheduler", rule(l("create", "patch", "update"), events, l("events")), rule(create, leases, l("leases")),
			rule(l("get", "list", "update", "watch", "patch"), leases, l("leases"), "kube-scheduler"), rule(read, coreGroup, l("nodes", "namespaces")),
			rule(l("delete", "get", "list", "watch"), coreGroup, l("pods")), rule(create, coreGroup, l("bindings", "pods/binding")), rule(l("patch", "update"), coreGroup, l("pods/status")),
			rule(read, coreGroup, l("replicationcontrollers", "services")), rule(read, apps, l("replicasets", "statefulsets")), rule(read, policy, l("poddisruptionbudgets")),
			rule(read, coreGroup, l("persistentvolumeclaims", "persistentvolumes")), rule(create, l("authentication.k8s.io"), l("tokenreviews")),
			rule(create, l("authorization.k8s.io"), l("subjectaccessreviews")), rule(read, storage, l("csinodes", "csidrivers", "csistoragecapacities", "volumeattachments", "storageclasses")),
			rule(read, resource, l("deviceclasses", "resourceclaims", "resourceslices", "devicetaintrules")), rule(l("update", "patch"), resource, l("resourceclaims", "resourceclaims/status")),
			rule(l("create", "delete"), resource, l("resourceclaims")), rule(l("update", "patch"), resource, l("resourceclaims/binding"))),
		role("system:service-account-issuer-discovery", rbacv1.PolicyRule{Verbs: l("get"), NonResourceURLs: l("/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/")}),
	}
	// What runs beside the kubelet in one process (proxy, DNS, pod network) acts
	// with the node's own identity. A node could take the same rights through the
	// tokens of upstream's DaemonSets.
	out = append(out, role("skiff:node-agents", rule(read, coreGroup, l("services", "namespaces", "pods", "nodes", "endpoints")),
		rule(read, discovery, l("endpointslices")), rule(read, networking, l("networkpolicies", "servicecidrs"))))
	out = append(out, role("system:cloud-controller-manager", rule(append(read, "patch", "update", "delete"), coreGroup, l("nodes")),
		rule(l("patch", "update"), coreGroup, l("nodes/status", "services/status")),
		rule(append(read, "patch", "update"), coreGroup, l("services")),
		rule(l("create", "patch", "update"), coreGroup, l("events")),
		rule(l("get", "create", "update"), l("coordination.k8s.io"), l("leases"))))
	for _, signer := range []string{"kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving", "kubernetes.io/legacy-unknown"} {
		short := map[string]string{
			"kubernetes.io/kube-apiserver-client": "kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet": "kube-apiserver-client-kubelet",
			"kubernetes.io/kubelet-serving": "kubelet-serving", "kubernetes.io/legacy-unknown": "legacy-unknown"}[signer]
		out = append(out, role("system:certificates.k8s.io:"+short+"-approver", rule(l("approve"), certs, l("signers"), signer)))
	}
	return append(out, controllerRoles()...)
}

// clusterRoleBindings are upstream's default bindings.
func clusterRoleBindings() []*rbacv1.ClusterRoleBinding {
	everyone := groupSubject("system:authenticated")
	node := bind("system:node")
	node.Subjects = nil
	out := []*rbacv1.ClusterRoleBinding{
		bind("cluster-admin", groupSubject("system:masters")),
		bind("system:monitoring", groupSubject("system:monitoring")),
		bind("system:discovery", everyone), bind("system:basic-user", everyone),
		bind("system:public-info-viewer", everyone, groupSubject("system:unauthenticated")),
		node,
		bind("system:node-proxier", userSubject("system:kube-proxy"), groupSubject("system:nodes")),
		bind("skiff:node-agents", groupSubject("system:nodes")),
		bind("system:kube-controller-manager", userSubject("system:kube-controller-manager")),
		bind("system:kube-dns", accountSubject("kube-dns")),
		bind("system:kube-scheduler", userSubject("system:kube-scheduler")),
		bind("system:volume-scheduler", userSubject("system:kube-scheduler")),
		bind("system:service-account-issuer-discovery", groupSubject("system:serviceaccounts")),
	}
	out = append(out, bind("system:cloud-controller-manager", accountSubject("cloud-controller-manager")))
	kubelets := bind("system:kubelet-api-admin", userSubject("kube-apiserver-kubelet-client"))
	kubelets.Name = "skiff:kubelet-api-admin"
	out = append(out, kubelets)
	for _, r := range controllerRoles() {
		name := r.Name[len("system:controller:"):]
		out = append(out, bind(r.Name, accountSubject(name)))
	}
	return out
}
