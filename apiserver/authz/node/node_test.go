package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

func request(node, verb, resource, subresource, name string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: "system:node:" + node, Groups: []string{user.NodesGroup}},
		Verb: verb, Resource: resource, Subresource: subresource, Namespace: "ns", Name: name, ResourceRequest: true,
	}
}

func pod(node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod"}, Spec: corev1.PodSpec{
		NodeName: node, ServiceAccountName: "account",
		Volumes: []corev1.Volume{
			{Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}}}},
			{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "secret"}}},
			{Name: "p", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}},
		},
	}}
}

func newAuthorizer(t *testing.T) *Authorizer {
	t.Helper()
	a, err := New(informers.NewSharedInformerFactory(fake.NewClientset(), 0))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAuthorize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthorizer(t)
		if err := a.pods.Add(pod("mine")); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			request authorizer.AttributesRecord
			mine    bool // the pod's own node may; others never may
		}{
			{request("", "get", "configmaps", "", "config"), true},
			{request("", "get", "configmaps", "", "other"), false},
			{request("", "list", "secrets", "", "secret"), true},
			{request("", "list", "secrets", "", ""), false},
			{request("", "delete", "secrets", "", "secret"), false},
			{request("", "get", "persistentvolumeclaims", "", "claim"), true},
			{request("", "create", "serviceaccounts", "token", "account"), true},
			{request("", "create", "serviceaccounts", "token", "other"), false},
			{request("", "get", "serviceaccounts", "", "account"), true},
			{request("", "get", "serviceaccounts", "", "other"), false},
			{request("", "update", "serviceaccounts", "", "account"), false},
		} {
			for node, allowed := range map[string]bool{"mine": tt.mine, "other": false} {
				r := tt.request
				r.User = request(node, "", "", "", "").User
				got, reason, err := a.Authorize(t.Context(), r)
				if err != nil || (got == authorizer.DecisionAllow) != allowed {
					t.Errorf("%s may %s %s/%s %q: %v (%s), %v, want %v", node, r.Verb, r.Resource, r.Subresource, r.Name, got, reason, err, allowed)
				}
			}
		}
	})
}

// A kubelet that is faster than the informer waits for it, and not for ever.
func TestAuthorizeSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthorizer(t)
		time.AfterFunc(100*time.Millisecond, func() {
			if err := a.pods.Add(pod("mine")); err != nil {
				t.Error(err)
			}
		})
		begin := time.Now()
		if got, reason, _ := a.Authorize(t.Context(), request("mine", "create", "serviceaccounts", "token", "account")); got != authorizer.DecisionAllow {
			t.Errorf("a pod that comes is not waited for: %s", reason)
		}
		if d := time.Since(begin); d < 100*time.Millisecond || d > 110*time.Millisecond {
			t.Errorf("the answer took %v", d)
		}
		begin = time.Now()
		if got, _, _ := a.Authorize(t.Context(), request("mine", "get", "secrets", "", "other")); got == authorizer.DecisionAllow {
			t.Error("a secret of no pod may be read")
		}
		if d := time.Since(begin); d != patience {
			t.Errorf("a refusal took %v, want %v", d, patience)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begin = time.Now()
		if got, _, _ := a.Authorize(ctx, request("mine", "get", "secrets", "", "other")); got == authorizer.DecisionAllow || time.Since(begin) != 0 {
			t.Errorf("a request that is over is waited for, %v", time.Since(begin))
		}
	})
}

// What a node may read beside what its pods need is its own, too.
//
// Covers: api.node-authorizer
func TestOwnObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthorizer(t)
		if err := a.pods.Add(pod("mine")); err != nil {
			t.Fatal(err)
		}
		if err := a.attachments.Add(&storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "att"}, Spec: storagev1.VolumeAttachmentSpec{NodeName: "mine"}}); err != nil {
			t.Fatal(err)
		}
		if err := a.certificates.Add(&certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "req"}, Spec: certificatesv1.PodCertificateRequestSpec{NodeName: "mine"}}); err != nil {
			t.Fatal(err)
		}
		selecting := func(r authorizer.AttributesRecord, node string) authorizer.AttributesRecord {
			r.FieldSelectorRequirements = fields.OneTermEqualSelector("spec.nodeName", node).Requirements()
			return r
		}
		name := pod("mine").Name
		for _, tt := range []struct {
			request authorizer.AttributesRecord
			want    string // the reason of a refusal; "yes"
		}{
			{request("mine", "get", "nodes", "", "mine"), "yes"},
			{request("mine", "get", "nodes", "", "other"), "node: node 'mine' cannot read 'other', only its own Node object"},
			{request("mine", "list", "nodes", "", ""), "node: node 'mine' cannot read all nodes, only its own Node object"},
			{request("mine", "create", "nodes", "", ""), "yes"},
			{request("mine", "patch", "nodes", "status", "mine"), "yes"},
			{request("mine", "delete", "nodes", "", "mine"), ""},
			{request("mine", "get", "pods", "", name), "yes"},
			{request("other", "get", "pods", "", name), "node: no relationship found between node 'other' and this object"},
			{request("mine", "list", "pods", "", ""), "node: can only list/watch pods with spec.nodeName field selector"},
			{selecting(request("mine", "watch", "pods", "", ""), "mine"), "yes"},
			{selecting(request("mine", "watch", "pods", "", ""), "other"), "node: can only list/watch pods with spec.nodeName field selector"},
			{request("mine", "update", "pods", "status", name), "yes"},
			{request("mine", "patch", "pods", "", name), ""},
			{request("mine", "get", "volumeattachments", "", "att"), "yes"},
			{request("other", "get", "volumeattachments", "", "att"), "node: no relationship found between node 'other' and this object"},
			{request("mine", "list", "volumeattachments", "", ""), "node: can only get individual resources of this type"},
			{request("mine", "create", "podcertificaterequests", "", ""), "yes"},
			{request("mine", "get", "podcertificaterequests", "", "req"), "yes"},
			{request("other", "get", "podcertificaterequests", "", "req"), "node: no relationship found between node 'other' and this object"},
			{request("mine", "list", "podcertificaterequests", "", ""), "node: can only list/watch podcertificaterequests with nodeName field selector"},
			{selecting(request("mine", "watch", "podcertificaterequests", "", ""), "mine"), "yes"},
			{selecting(request("mine", "watch", "podcertificaterequests", "", ""), "other"), "node: can only list/watch podcertificaterequests with nodeName field selector"},
			{request("mine", "delete", "podcertificaterequests", "", "req"), "node: nodes may not delete podcertificaterequests"},
			{request("mine", "update", "podcertificaterequests", "status", "req"), "node: nodes may not access the status subresource of PodCertificateRequests"},
		} {
			r := tt.request
			switch r.Resource {
			case "volumeattachments":
				r.APIGroup = "storage.k8s.io"
			case "podcertificaterequests":
				r.APIGroup = "certificates.k8s.io"
			}
			got, reason, err := a.Authorize(t.Context(), r)
			if got == authorizer.DecisionAllow {
				reason = "yes"
			}
			if err != nil || reason != tt.want {
				t.Errorf("%s %s %s/%s %q: %q, %v, want %q", r.User.GetName(), r.Verb, r.Resource, r.Subresource, r.Name, reason, err, tt.want)
			}
		}
	})
}
