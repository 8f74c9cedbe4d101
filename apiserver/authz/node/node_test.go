package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
