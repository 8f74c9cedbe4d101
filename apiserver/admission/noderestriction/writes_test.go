package noderestriction

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
)

// What a kubelet may write of its own node and as mirror pods is what it needs,
// and nothing that gives it, or someone through the garbage collector, more:
// owner references of its node (CVE-2025-5187), and what a mirror pod would let
// it read (CVE-2025-4563, CVE-2024-3177).
//
// Covers: api.node-authorizer
func TestWrites(t *testing.T) {
	client := fake.NewClientset(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "1"}})
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "gone", UID: "1"}}
	node := func(change ...func(*v1.Node)) *v1.Node {
		n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
		for _, f := range change {
			f(n)
		}
		return n
	}
	mirror := func(change ...func(*v1.Pod)) *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", Annotations: map[string]string{v1.MirrorPodAnnotationKey: "x"}},
			Spec: v1.PodSpec{NodeName: "n", Containers: []v1.Container{{Name: "c"}}}}
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n", UID: "1", Controller: ptr.To(true)}}
		for _, f := range change {
			f(p)
		}
		return p
	}
	volume := func(s v1.VolumeSource) func(*v1.Pod) {
		return func(p *v1.Pod) { p.Spec.Volumes = []v1.Volume{{Name: "v", VolumeSource: s}} }
	}
	projected := func(p v1.VolumeProjection) func(*v1.Pod) {
		return volume(v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{p}}})
	}
	for _, tc := range []struct {
		name     string
		sub      string
		old, obj runtime.Object
		want     string
	}{
		{name: "the node registers", obj: node()},
		{name: "a node with an owner", obj: node(func(n *v1.Node) { n.OwnerReferences = owner }), want: `nodes "n" is forbidden: node "n" is not allowed to set ownerReferences`},
		{name: "an owner is added", old: node(), obj: node(func(n *v1.Node) { n.OwnerReferences = owner }), want: `nodes "n" is forbidden: node "n" is not allowed to modify ownerReferences`},
		{name: "an owner is added by way of the status", sub: "status", old: node(), obj: node(func(n *v1.Node) { n.OwnerReferences = owner }),
			want: `nodes "n" is forbidden: node "n" is not allowed to modify ownerReferences`},
		{name: "an owner is taken away", old: node(func(n *v1.Node) { n.OwnerReferences = owner }), obj: node(), want: `nodes "n" is forbidden: node "n" is not allowed to modify ownerReferences`},
		{name: "taints", old: node(), obj: node(func(n *v1.Node) { n.Spec.Taints = []v1.Taint{{Key: "k"}} }), want: `nodes "n" is forbidden: node "n" is not allowed to modify taints`},
		{name: "a label that only others set", old: node(), obj: node(func(n *v1.Node) { n.Labels = map[string]string{"node-restriction.kubernetes.io/x": "y"} }),
			want: `nodes "n" is forbidden: is not allowed to modify labels: node-restriction.kubernetes.io/x`},
		{name: "mirror pod", obj: mirror()},
		{name: "mirror pod of nobody", obj: mirror(func(p *v1.Pod) { p.OwnerReferences = nil }),
			want: `pods "p" is forbidden: node "n" can only create pods with an owner reference set to itself`},
		{name: "mirror pod of the node that there was", obj: mirror(func(p *v1.Pod) { p.OwnerReferences[0].UID = "0" }),
			want: `pods "p" is forbidden: node n UID mismatch: expected 0 got 1`},
		{name: "ordinary pod", obj: mirror(func(p *v1.Pod) { p.Annotations = nil }),
			want: `pods "p" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node "n" can only create mirror pods`},
		{name: "mirror pod with an owner", obj: mirror(func(p *v1.Pod) { p.OwnerReferences = owner }),
			want: `pods "p" is forbidden: node "n" can only create pods with an owner reference set to itself`},
		{name: "mirror pod with a claim for devices", obj: mirror(func(p *v1.Pod) {
			p.Spec.ResourceClaims = []v1.PodResourceClaim{{Name: "gpu", ResourceClaimName: ptr.To("c")}}
		}),
			want: `pods "p" is forbidden: node "n" can not create pods that reference resourceclaims`},
		{name: "what a claim gives in place of a device plugin", sub: "status", old: mirror(), obj: mirror(func(p *v1.Pod) {
			p.Status.ExtendedResourceClaimStatus = &v1.PodExtendedResourceClaimStatus{ResourceClaimName: "c"}
		}),
			want: `pods "p" is forbidden: node "n" cannot update extended resource claim status`},
		{name: "mirror pod with a service account", obj: mirror(func(p *v1.Pod) { p.Spec.ServiceAccountName = "admin" }),
			want: `pods "p" is forbidden: node "n" can not create pods that reference a service account`},
		{name: "mirror pod with a Secret for a CSI driver", obj: mirror(volume(v1.VolumeSource{CSI: &v1.CSIVolumeSource{NodePublishSecretRef: &v1.LocalObjectReference{Name: "s"}}})),
			want: `pods "p" is forbidden: node "n" can not create pods that reference secrets`},
		{name: "mirror pod with a Secret in an ephemeral container", obj: mirror(func(p *v1.Pod) {
			p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{
				EnvFrom: []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "s"}}}}}}}
		}), want: `pods "p" is forbidden: node "n" can not create pods that reference secrets`},
		{name: "mirror pod with a ConfigMap", obj: mirror(projected(v1.VolumeProjection{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "m"}}})),
			want: `pods "p" is forbidden: node "n" can not create pods that reference configmaps`},
		{name: "mirror pod with a token", obj: mirror(projected(v1.VolumeProjection{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "t"}})),
			want: `pods "p" is forbidden: node "n" can not create pods that reference a service account`},
		{name: "mirror pod with a trust bundle", obj: mirror(projected(v1.VolumeProjection{ClusterTrustBundle: &v1.ClusterTrustBundleProjection{Path: "t"}})),
			want: `pods "p" is forbidden: node "n" can not create pods that reference clustertrustbundles`},
		{name: "mirror pod with a certificate", obj: mirror(projected(v1.VolumeProjection{PodCertificate: &v1.PodCertificateProjection{SignerName: "s"}})),
			want: `pods "p" is forbidden: node "n" can not create pods that reference pod certificates`},
		{name: "mirror pod with a claim", obj: mirror(volume(v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}})),
			want: `pods "p" is forbidden: node "n" can not create pods that reference persistentvolumeclaims`},
		{name: "an ordinary pod is changed", old: mirror(), obj: mirror(), want: `pods "p" is forbidden: unexpected operation "UPDATE", node "n" can only create and delete mirror pods`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := &admission.Attributes{
				Operation: admission.Create, Subresource: tc.sub, Object: tc.obj, Name: "n", Resource: v1.SchemeGroupVersion.WithResource("nodes"),
				User: &user.DefaultInfo{Name: "system:node:n", Groups: []string{user.NodesGroup}},
			}
			if _, ok := tc.obj.(*v1.Pod); ok {
				a.Name, a.Namespace, a.Resource = "p", "ns", v1.SchemeGroupVersion.WithResource("pods")
			}
			if tc.old != nil {
				a.Operation, a.OldObject = admission.Update, tc.old
			}
			got := ""
			if err := (&Plugin{client: client}).Admit(t.Context(), a); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
