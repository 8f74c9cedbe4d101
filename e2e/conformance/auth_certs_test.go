package conformance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// errLeft says how many objects are left.
type errLeft int

func (n errLeft) Error() string { return fmt.Sprintf("%d objects are left", int(n)) }

// certificateRequest is a PEM request as a CSR object takes it.
func certificateRequest() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err.Error()
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "e2e.example.com"}, DNSNames: []string{"e2e.example.com"},
	}, key)
	if err != nil {
		return err.Error()
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// trustBundle is the PEM of a new certificate authority.
func trustBundle() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err.Error()
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "e2e"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err.Error()
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// trustBundleJSON is trustBundle between the quotes of a JSON text.
func trustBundleJSON() string {
	b, err := json.Marshal(trustBundle())
	if err != nil {
		return err.Error()
	}
	return strings.Trim(string(b), `"`)
}

// The approval and the certificate have endpoints of their own, which the
// official test of requests goes through too.
func TestAuthRequestApproval(t *testing.T) {
	s := parallel(t)
	c := s.client.CertificatesV1().CertificateSigningRequests()
	der, err := base64.StdEncoding.DecodeString(certificateRequest())
	s.must(err)
	csr, err := c.Create(s.ctx, &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: der, SignerName: "example.com/e2e-" + s.name, ExpirationSeconds: ptr.To[int32](3600),
		Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth},
	}}, metav1.CreateOptions{})
	s.must(err)
	s.later("delete the request", func(ctx context.Context) error { return c.Delete(ctx, csr.Name, metav1.DeleteOptions{}) })
	equal(s, "the user", "kubernetes-admin", csr.Spec.Username)

	csr, err = c.Patch(s.ctx, s.name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"patchedapproval":"true"}},"status":{"conditions":[{"type":"ApprovalPatch","status":"True","reason":"e2e"}]}}`), metav1.PatchOptions{}, "approval")
	s.must(err)
	if len(csr.Status.Conditions) != 1 || csr.Status.Conditions[0].Type != "ApprovalPatch" || csr.Annotations["patchedapproval"] != "true" {
		t.Errorf("the patched request is %+v %+v", csr.Annotations, csr.Status)
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "E2E", Message: "Set from an e2e test",
	})
	csr, err = c.UpdateApproval(s.ctx, s.name, csr, metav1.UpdateOptions{})
	s.must(err)
	if len(csr.Status.Conditions) != 2 || csr.Status.Conditions[1].Type != certificatesv1.CertificateApproved {
		t.Errorf("the approved request is %+v", csr.Status)
	}
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{"patchedstatus": "true"}}, "status": map[string]any{"certificate": []byte(trustBundle())}})
	s.must(err)
	csr, err = c.Patch(s.ctx, s.name, types.MergePatchType, b, metav1.PatchOptions{}, "status")
	s.must(err)
	if !strings.Contains(string(csr.Status.Certificate), "BEGIN CERTIFICATE") || csr.Annotations["patchedstatus"] != "true" {
		t.Errorf("the request with a certificate is %+v %+v", csr.Annotations, csr.Status)
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: "StatusUpdate", Status: corev1.ConditionTrue, Reason: "E2E"})
	csr, err = c.UpdateStatus(s.ctx, csr, metav1.UpdateOptions{})
	s.must(err)
	equal(s, "the number of conditions", 3, len(csr.Status.Conditions))
	s.mustKubectl("", "get", "--raw", "/apis/certificates.k8s.io/v1/certificatesigningrequests/"+s.name+"/approval")
}
