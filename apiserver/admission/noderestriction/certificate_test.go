package noderestriction

import (
	"strings"
	"testing"

	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"skiff/apiserver/admission"
)

// Who has a node's credentials gets certificates of the pods on it alone.
//
// Covers: api.node-authorizer
func TestCertificates(t *testing.T) {
	pod := func(name, node string, change ...func(*v1.Pod)) *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "p"}, Spec: v1.PodSpec{NodeName: node, ServiceAccountName: "a",
			Volumes: []v1.Volume{{Name: "t"}, {Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{
				Sources: []v1.VolumeProjection{{}, {PodCertificate: &v1.PodCertificateProjection{SignerName: "example.com/s"}}}}}}}}}
		for _, f := range change {
			f(p)
		}
		return p
	}
	client := fake.NewClientset(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "1"}}, &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a", UID: "2"}},
		pod("mine", "n"), pod("other", "m"), pod("mirror", "n", func(p *v1.Pod) { p.Annotations = map[string]string{v1.MirrorPodAnnotationKey: "x"} }),
		pod("orphan", "n", func(p *v1.Pod) { p.Spec.ServiceAccountName = "gone" }))
	plugin := New(client, informers.NewSharedInformerFactory(client, 0).Core().V1().Pods().Lister())
	type spec = certificatesv1beta1.PodCertificateRequestSpec
	for _, tc := range []struct {
		name, sub string
		operation admission.Operation
		change    func(*spec)
		want      string
	}{
		{name: "a pod on the node", change: func(*spec) {}},
		{name: "another node's name", change: func(s *spec) { s.NodeName = "m" }, want: `PodCertificateRequest.Spec.NodeName="m", which is not the requesting node "n"`},
		{name: "an older node", change: func(s *spec) { s.NodeUID = "0" }, want: `PodCertificateRequest for pod "ns/mine" names node UID "0", inconsistent with the running node ("1")`},
		{name: "an older pod", change: func(s *spec) { s.PodUID = "0" }, want: `PodCertificateRequest for pod "ns/mine" contains pod UID ("0") which differs from running pod "p"`},
		{name: "a pod of another node", change: func(s *spec) { s.PodName = "other" }, want: `pod "ns/other" is not running on node "n" named in the PodCertificateRequest`},
		{name: "a mirror pod", change: func(s *spec) { s.PodName = "mirror" }, want: `pod "ns/mirror" is a mirror pod`},
		{name: "another account", change: func(s *spec) { s.ServiceAccountName = "b" },
			want: `PodCertificateRequest for pod "ns/mine" contains serviceAccountName ("b") that differs from running pod ("a")`},
		{name: "an older account", change: func(s *spec) { s.ServiceAccountUID = "0" },
			want: `PodCertificateRequest for pod "ns/mine" names service account UID "0", which differs from the running service account ("2")`},
		{name: "a signer that the pod does not ask", change: func(s *spec) { s.SignerName = "example.com/other" },
			want: `PodCertificateRequest for pod "ns/mine" names signer "example.com/other", of which the pod asks for no certificate`},
		{name: "no such pod", change: func(s *spec) { s.PodName = "gone" }, want: `pods "gone" not found`},
		{name: "no such account", change: func(s *spec) { s.PodName, s.ServiceAccountName = "orphan", "gone" },
			want: `serviceaccounts "gone" not found`},
		{name: "an answer", sub: "status", operation: admission.Update, change: func(*spec) {}, want: "unexpected operation UPDATE"},
		{name: "a part", sub: "status", change: func(*spec) {}, want: "unexpected subresource status"},
		{name: "the end of it", operation: admission.Delete, change: func(*spec) {}, want: "unexpected operation DELETE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &certificatesv1beta1.PodCertificateRequest{Spec: spec{SignerName: "example.com/s", PodName: "mine", PodUID: "p", ServiceAccountName: "a", ServiceAccountUID: "2", NodeName: "n", NodeUID: "1"}}
			tc.change(&r.Spec)
			a := &admission.Attributes{
				Operation: tc.operation, Subresource: tc.sub, Object: r, Name: "r", Namespace: "ns", Resource: certificatesv1beta1.SchemeGroupVersion.WithResource("podcertificaterequests"),
				User: &user.DefaultInfo{Name: "system:node:n", Groups: []string{user.NodesGroup}},
			}
			if a.Operation == "" {
				a.Operation = admission.Create
			}
			got, want := "", tc.want
			if want != "" && !strings.HasSuffix(want, "not found") {
				want = `podcertificaterequests.certificates.k8s.io "r" is forbidden: ` + want
			}
			if err := plugin.Admit(t.Context(), a); err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}
