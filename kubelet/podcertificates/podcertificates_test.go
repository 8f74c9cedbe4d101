package podcertificates

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"skiff/kubelet/volumes/volume"
)

// node is a node with one pod and a signer.
type node struct {
	*testing.T
	client  *fake.Clientset
	manager *Manager
	request *volume.Request
	told    map[types.UID]int
	ca      *ecdsa.PrivateKey
}

func run(t *testing.T, test func(n *node)) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{T: t, told: map[types.UID]int{}, client: fake.NewClientset(&v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "account", UID: "account-uid"}})}
		made := 0
		n.client.PrependReactor("create", "podcertificaterequests", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if r, ok := a.(clienttesting.CreateAction).GetObject().(*certificatesv1.PodCertificateRequest); ok {
				made++
				r.Name = fmt.Sprintf("%s%d", r.GenerateName, made)
			}
			return false, nil, nil
		})
		var err error
		if n.ca, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
		src := &v1.PodCertificateProjection{SignerName: "example.com/signer", KeyType: "ECDSAP256", CredentialBundlePath: "bundle.pem",
			MaxExpirationSeconds: ptr.To[int32](7200), UserAnnotations: map[string]string{"example.com/a": "b"}}
		n.request = &volume.Request{
			Dir:    t.TempDir(),
			Pod:    &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod", UID: "pod-uid"}, Spec: v1.PodSpec{ServiceAccountName: "account"}},
			Volume: &v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{}, {PodCertificate: src}}}}},
		}
		n.start()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.manager.Run(ctx) }()
		test(n)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (n *node) start() {
	n.Helper()
	m, err := New(Config{Client: n.client, NodeName: "node", Notify: func(uid types.UID) { n.told[uid]++ },
		Node: func() *v1.Node { return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", UID: "node-uid"}} }})
	if err != nil {
		n.Fatal(err)
	}
	m.jitter = func(time.Duration) time.Duration { return 0 }
	n.manager = m
}

// get is what the pod has: the public key's certificate number, or the error.
func (n *node) get() (key, chain []byte, said string) {
	n.Helper()
	key, chain, err := n.manager.Credentials(n.Context(), n.request, 1)
	synctest.Wait()
	if err != nil {
		return nil, nil, err.Error()
	}
	if _, err := tls.X509KeyPair(chain, key); err != nil {
		n.Errorf("key and chain do not belong together: %v", err)
	}
	return key, chain, ""
}

func (n *node) says(want string) {
	n.Helper()
	if _, _, said := n.get(); said != want {
		n.Fatalf("said %q, want %q", said, want)
	}
}

// answer is the signer's, to a request by name.
func (n *node) answer(name, condition string) {
	n.Helper()
	api := n.client.CertificatesV1().PodCertificateRequests("ns")
	r, err := api.Get(n.Context(), name, metav1.GetOptions{})
	if err != nil {
		n.Fatal(err)
	}
	r.Status.Conditions = []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue, Reason: "R", Message: "m"}}
	if condition == certificatesv1.PodCertificateRequestConditionTypeIssued {
		csr, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
		if err != nil {
			n.Fatal(err)
		}
		now := time.Now()
		r.Status.NotBefore, r.Status.BeginRefreshAt, r.Status.NotAfter = &metav1.Time{Time: now}, &metav1.Time{Time: now.Add(time.Hour)}, &metav1.Time{Time: now.Add(2 * time.Hour)}
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: now, NotAfter: now.Add(2 * time.Hour)}
		r.Status.CertificateChain = "leaf\n" + n.sign(leaf, csr.PublicKey) + "root\n" + n.sign(&x509.Certificate{SerialNumber: big.NewInt(1)}, n.ca.Public())
	}
	if _, err := api.UpdateStatus(n.Context(), r, metav1.UpdateOptions{}); err != nil {
		n.Fatal(err)
	}
	synctest.Wait()
}

func (n *node) sign(c *x509.Certificate, key crypto.PublicKey) string {
	n.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{SerialNumber: big.NewInt(1)}, key, n.ca)
	if err != nil {
		n.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: der}))
}

func (n *node) requests(want int) {
	n.Helper()
	list, err := n.client.CertificatesV1().PodCertificateRequests("ns").List(n.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != want {
		n.Fatalf("%d requests, %v, want %d", len(list.Items), err, want)
	}
}

func TestRequest(t *testing.T) {
	run(t, func(n *node) {
		n.says("credential bundle is not issued yet")
		got, err := n.client.CertificatesV1().PodCertificateRequests("ns").Get(n.Context(), "req-1", metav1.GetOptions{})
		if err != nil {
			n.Fatal(err)
		}
		csr, err := x509.ParseCertificateRequest(got.Spec.StubPKCS10Request)
		if err != nil || csr.CheckSignature() != nil || csr.Subject.String() != "" {
			n.Errorf("request %v, %v", csr, err)
		}
		got.Spec.StubPKCS10Request = nil
		want := certificatesv1.PodCertificateRequestSpec{SignerName: "example.com/signer", PodName: "pod", PodUID: "pod-uid", ServiceAccountName: "account",
			ServiceAccountUID: "account-uid", NodeName: "node", NodeUID: "node-uid", MaxExpirationSeconds: ptr.To[int32](7200),
			UnverifiedUserAnnotations: map[string]string{"example.com/a": "b"}}
		if diff := cmp.Diff(want, got.Spec); diff != "" {
			n.Error(diff)
		}
		if diff := cmp.Diff([]metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "pod", UID: "pod-uid"}}, got.OwnerReferences); diff != "" {
			n.Error(diff)
		}
	})
}

func TestIssueAndRefresh(t *testing.T) {
	run(t, func(n *node) {
		n.says("credential bundle is not issued yet")
		n.says("credential bundle is not issued yet")
		n.requests(1)
		before := n.told["pod-uid"]
		n.answer("req-1", "Issued")
		if n.told["pod-uid"] == before {
			n.Error("nobody was told that the certificate is issued")
		}
		key, chain, said := n.get()
		if said != "" {
			n.Fatal(said)
		}
		if bytes.Contains(chain, []byte("leaf")) || bytes.Contains(chain, []byte("a: b")) || bytes.Count(chain, []byte("BEGIN CERTIFICATE")) != 2 {
			n.Errorf("chain:\n%s", chain)
		}
		if in := n.manager.RefreshIn("pod-uid"); in != time.Hour {
			n.Errorf("refresh in %v", in)
		}
		time.Sleep(time.Hour)
		same := func() {
			n.Helper()
			if k, c, said := n.get(); !bytes.Equal(k, key) || !bytes.Equal(c, chain) {
				n.Errorf("the old certificate does not serve on: %s", said)
			}
		}
		same()
		n.requests(2)
		n.answer("req-2", "Denied")
		same()
		if in := n.manager.RefreshIn("pod-uid"); in != firstRetry {
			n.Errorf("the next try is in %v", in)
		}
		n.requests(2)
		time.Sleep(firstRetry)
		same()
		n.requests(3)
		n.answer("req-3", "Issued")
		if k, _, said := n.get(); said != "" || bytes.Equal(k, key) {
			n.Errorf("the new certificate was not taken: %s", said)
		}
		n.manager.Forget("pod-uid")
		if in := n.manager.RefreshIn("pod-uid"); in != 0 {
			n.Errorf("a pod that is gone has a refresh in %v", in)
		}
	})
}

func TestEnd(t *testing.T) {
	run(t, func(n *node) {
		n.says("credential bundle is not issued yet")
		n.answer("req-1", "Issued")
		n.says("")
		time.Sleep(2 * time.Hour)
		n.says("the certificate ended at " + time.Now().UTC().Format(time.RFC3339) + " and there is no newer one yet")
		n.answer("req-2", "Issued")
		n.says("")
	})
}

func TestRefused(t *testing.T) {
	for condition, want := range map[string]string{"Denied": "denied", "Failed": "failed"} {
		run(t, func(n *node) {
			n.says("credential bundle is not issued yet")
			n.answer("req-1", condition)
			want := `PodCertificateRequest was permanently ` + want + `: reason="R" message="m"`
			n.says(want)
			time.Sleep(time.Hour)
			n.says(want)
			n.requests(1)
		})
	}
}

func TestDeleted(t *testing.T) {
	run(t, func(n *node) {
		n.says("credential bundle is not issued yet")
		n.says("credential bundle is not issued yet")
		if err := n.client.CertificatesV1().PodCertificateRequests("ns").Delete(n.Context(), "req-1", metav1.DeleteOptions{}); err != nil {
			n.Fatal(err)
		}
		synctest.Wait()
		n.says("credential bundle is not issued yet")
		n.answer("req-2", "Issued")
		n.says("")
	})
}

// A later kubelet serves what an earlier one left, and asks anew.
func TestAdopt(t *testing.T) {
	run(t, func(n *node) {
		n.says("credential bundle is not issued yet")
		n.answer("req-1", "Issued")
		key, chain, _ := n.get()
		if err := os.WriteFile(filepath.Join(n.request.Dir, "bundle.pem"), append(bytes.Clone(key), chain...), 0o600); err != nil {
			n.Fatal(err)
		}
		n.start()
		if k, c, said := n.get(); !bytes.Equal(k, key) || !bytes.Equal(c, chain) {
			n.Errorf("what was left does not serve: %s", said)
		}
		n.requests(2)
		time.Sleep(2 * time.Hour)
		n.start()
		n.says("credential bundle is not issued yet")
	})
}

// Sources of one pod have each their own request, however their volumes are called.
func TestSources(t *testing.T) {
	run(t, func(n *node) {
		src := n.request.Volume.Projected.Sources[1]
		for range 10 {
			n.request.Volume.Projected.Sources = append(n.request.Volume.Projected.Sources, src)
		}
		for _, at := range []struct {
			volume string
			source int
		}{{"v", 11}, {"v1", 1}, {"v", 1}} {
			n.request.Volume.Name = at.volume
			if _, _, err := n.manager.Credentials(n.Context(), n.request, at.source); err == nil {
				n.Error("there is a certificate that nobody issued")
			}
		}
		n.requests(3)
	})
}

func TestKeys(t *testing.T) {
	for _, kind := range []string{"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"} {
		key, request, err := newKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		block, rest := pem.Decode(key)
		if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
			t.Fatalf("%s: key %s", kind, key)
		}
		private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.ParseCertificateRequest(request)
		if err != nil || csr.CheckSignature() != nil {
			t.Errorf("%s: request %v", kind, err)
		}
		if public, ok := private.(crypto.Signer).Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(csr.PublicKey) {
			t.Errorf("%s: the request is not of the key", kind)
		}
	}
	if _, _, err := newKey("DSA"); err == nil {
		t.Error("an unknown type made a key")
	}
}
