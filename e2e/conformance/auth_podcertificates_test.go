package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// certified is a pod that mounts a certificate of its own.
func (s *space) certified(keyType string) *corev1.Pod {
	p := shellPod("pod", "sleep 3600")
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "own", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{
			SignerName: s.signer(), KeyType: keyType, MaxExpirationSeconds: ptr.To[int32](3600), CredentialBundlePath: "bundle.pem",
			UserAnnotations: map[string]string{"example.com/wants": "this"},
		}}},
	}}})
	p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "own", MountPath: "/own"})
	return p
}

func (s *space) signer() string { return "example.com/" + s.name }

// requested is the request of the pod, once the node made it.
func (s *space) requested(p *corev1.Pod) *certificatesv1.PodCertificateRequest {
	s.t.Helper()
	var out *certificatesv1.PodCertificateRequest
	s.eventually(30*time.Second, "a request for the pod's certificate", func() error {
		list, err := s.client.CertificatesV1().PodCertificateRequests(s.name).List(s.ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range list.Items {
			r := &list.Items[i]
			if r.Spec.PodUID == p.UID {
				out = r
				return nil
			}
		}
		return fmt.Errorf("%d requests", len(list.Items))
	})
	return out
}

// answer says what becomes of a request.
func (s *space) answer(r *certificatesv1.PodCertificateRequest, kind, reason, message string) {
	s.t.Helper()
	r.Status.Conditions = []metav1.Condition{{Type: kind, Status: metav1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: metav1.Now()}}
	_, err := s.client.CertificatesV1().PodCertificateRequests(s.name).UpdateStatus(s.ctx, r, metav1.UpdateOptions{})
	s.must(err)
}

// issue signs a request as a signer would.
func (s *space) issue(r *certificatesv1.PodCertificateRequest, serial int64) {
	s.t.Helper()
	stub, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	s.must(err)
	s.must(stub.CheckSignature())
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.must(err)
	now := time.Now().Truncate(time.Second)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: r.Spec.PodName}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(59 * time.Minute),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, &x509.Certificate{Subject: pkix.Name{CommonName: s.signer()}}, stub.PublicKey, key)
	s.must(err)
	r.Status.CertificateChain = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	r.Status.NotBefore, r.Status.NotAfter = ptr.To(metav1.NewTime(leaf.NotBefore)), ptr.To(metav1.NewTime(leaf.NotAfter))
	r.Status.BeginRefreshAt = ptr.To(metav1.NewTime(now.Add(30 * time.Minute)))
	s.answer(r, certificatesv1.PodCertificateRequestConditionTypeIssued, "Issued", "signed by the test")
}

// holdsCertificate checks that the pod's key and certificate belong together, and which
// certificate it is.
func (s *space) holdsCertificate(serial int64) error {
	text, err := s.exec("pod", "", "cat", "/own/bundle.pem")
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair([]byte(text), []byte(text))
	if err != nil {
		return err
	}
	if got := pair.Leaf.SerialNumber.Int64(); got != serial || pair.Leaf.Subject.CommonName != "pod" {
		return fmt.Errorf("certificate %d of %s, want %d of pod", got, pair.Leaf.Subject.CommonName, serial)
	}
	return nil
}

// A pod starts when a signer has answered the node's request, has a key that
// belongs to its certificate.
//
// Covers: node.volumes
func TestAuthPodCertificateIssued(t *testing.T) {
	for name, keyType := range map[string]string{"ecdsa": "ECDSAP256", "ed25519": "ED25519", "rsa": "RSA3072"} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := s.pod(s.certified(keyType))
			s.failsToMount("credential bundle is not issued yet")
			first := s.requested(p)
			equal(s, "the signer", s.signer(), first.Spec.SignerName)
			equal(s, "the account", "default", first.Spec.ServiceAccountName)
			equal(s, "the annotation", "this", first.Spec.UnverifiedUserAnnotations["example.com/wants"])
			s.issue(first, 1)
			s.podIs("pod", "running", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
			s.must(s.holdsCertificate(1))
		})
	}
}

// Covers: node.volumes
func TestAuthPodCertificateRefused(t *testing.T) {
	for name, tc := range map[string]struct{ kind, reason, says string }{
		"denied": {certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionUnsupportedKeyType,
			`PodCertificateRequest was permanently denied: reason="UnsupportedKeyType" message="use another"`},
		"failed": {certificatesv1.PodCertificateRequestConditionTypeFailed, "Broken",
			`PodCertificateRequest was permanently failed: reason="Broken" message="use another"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := s.pod(s.certified("ECDSAP256"))
			s.answer(s.requested(p), tc.kind, tc.reason, "use another")
			s.failsToMount(tc.says)
			p = s.podIs("pod", "still waiting", func(p *corev1.Pod) bool { return len(p.Status.ContainerStatuses) == 1 })
			equal(s, "the phase", corev1.PodPending, p.Status.Phase)
		})
	}
}

// failsToMount waits for an event that says why a volume is missing.
func (s *space) failsToMount(text string) {
	s.t.Helper()
	s.eventually(60*time.Second, "an event of the failed mount", func() error {
		events, err := s.client.CoreV1().Events(s.name).List(s.ctx, metav1.ListOptions{FieldSelector: "reason=FailedMount"})
		if err != nil {
			return err
		}
		var said []string
		for i := range events.Items {
			if strings.Contains(events.Items[i].Message, text) {
				return nil
			}
			said = append(said, events.Items[i].Message)
		}
		return errors.New(strings.Join(said, "\n"))
	})
}
