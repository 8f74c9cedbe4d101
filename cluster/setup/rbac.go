package setup

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/cluster/token"
)

// The ConfigMaps and the Secret that kubeadm keeps in kube-system.
const (
	clusterConfigMap = "kubeadm-config"
	kubeletConfigMap = "kubelet-config"
	proxyConfigMap   = "kube-proxy"
	dnsConfigMap     = "coredns"
	proxyConfigKey   = "config.conf"
	certsSecret      = "kubeadm-certs"
)

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func bindCluster(name, role string, subjects ...rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta("", name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   subjects,
	}
}

// readOne is a Role that may get one object, bound to subjects.
func readOne(namespace, role, resource, name string, subjects ...rbacv1.Subject) []runtime.Object {
	return []runtime.Object{
		&rbacv1.Role{ObjectMeta: meta(namespace, role), Rules: []rbacv1.PolicyRule{{
			Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}, ResourceNames: []string{name},
		}}},
		&rbacv1.RoleBinding{
			ObjectMeta: meta(namespace, role),
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
			Subjects:   subjects,
		},
	}
}

// bootstrapRules let nodes join: kubeadm's objects.
func bootstrapRules() []runtime.Object {
	joining, nodes := group(token.DefaultGroup), group("system:nodes")
	out := []runtime.Object{
		bindCluster("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", joining),
		bindCluster("kubeadm:node-autoapprove-bootstrap", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", joining),
		bindCluster("kubeadm:node-autoapprove-certificate-rotation", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", nodes),
		// The approver asks whether a node may have a serving certificate signed
		// without a person. Deleting the binding takes that away.
		&rbacv1.ClusterRole{ObjectMeta: meta("", "skiff:node-serving-certificates"), Rules: []rbacv1.PolicyRule{{
			Verbs: []string{"create"}, APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"certificatesigningrequests/selfnodeserver"},
		}}},
		bindCluster("skiff:node-serving-certificates", "skiff:node-serving-certificates", nodes),
		&rbacv1.ClusterRole{ObjectMeta: meta("", "skiff:serving-certificate-approver"), Rules: []rbacv1.PolicyRule{{
			Verbs: []string{"approve"}, APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"signers"}, ResourceNames: []string{"kubernetes.io/kubelet-serving"},
		}}},
		bindCluster("skiff:serving-certificate-approver", "skiff:serving-certificate-approver",
			rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "kube-system", Name: "certificate-controller"}),
		&rbacv1.ClusterRole{ObjectMeta: meta("", "kubeadm:get-nodes"), Rules: []rbacv1.PolicyRule{{
			Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"nodes"},
		}}},
		bindCluster("kubeadm:get-nodes", "kubeadm:get-nodes", joining),
	}
	anyone := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "system:anonymous"}
	out = append(out, readOne("kube-public", "kubeadm:bootstrap-signer-clusterinfo", "configmaps", "cluster-info", anyone)...)
	out = append(out, readOne("kube-system", "kubeadm:nodes-kubeadm-config", "configmaps", clusterConfigMap, joining, nodes)...)
	out = append(out, readOne("kube-system", "kubeadm:kubelet-config", "configmaps", kubeletConfigMap, joining, nodes)...)
	out = append(out, readOne("kube-system", "kube-proxy", "configmaps", proxyConfigMap, joining)...)
	return append(out, readOne("kube-system", "kubeadm:kubeadm-certs", "secrets", certsSecret, joining)...)
}

// dnsService is the cluster DNS Service. It has no selector: every node answers
// for its own pods, and the controllers list the nodes as its endpoints.
func dnsService(ips []string) *corev1.Service {
	local := corev1.ServiceInternalTrafficPolicyLocal
	labels := map[string]string{
		"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
	}
	families := corev1.IPFamilyPolicySingleStack
	if len(ips) > 1 {
		families = corev1.IPFamilyPolicyPreferDualStack
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "kube-system", Name: "kube-dns", Labels: labels,
			Annotations: map[string]string{"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
		},
		Spec: corev1.ServiceSpec{
			ClusterIP: ips[0], ClusterIPs: ips, IPFamilyPolicy: &families,
			InternalTrafficPolicy: &local,
			Ports: []corev1.ServicePort{
				{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP},
				{Name: "dns-tcp", Port: 53, Protocol: corev1.ProtocolTCP},
				{Name: "metrics", Port: 9153, Protocol: corev1.ProtocolTCP},
			},
		},
	}
}
