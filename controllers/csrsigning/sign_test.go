package csrsigning

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	certs "k8s.io/api/certificates/v1"
	"k8s.io/utils/ptr"
)

func request(t *testing.T, template *x509.CertificateRequest) *x509.CertificateRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	req, err := Parse(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

var nodeSubject = pkix.Name{CommonName: "system:node:n", Organization: []string{"system:nodes"}}

func TestValidate(t *testing.T) {
	client := []certs.KeyUsage{certs.UsageDigitalSignature, certs.UsageClientAuth}
	server := []certs.KeyUsage{certs.UsageDigitalSignature, certs.UsageServerAuth}
	for name, tc := range map[string]struct {
		signer string
		req    *x509.CertificateRequest
		usages []certs.KeyUsage
		want   string
	}{
		"kubelet client":         {certs.KubeAPIServerClientKubeletSignerName, &x509.CertificateRequest{Subject: nodeSubject}, client, ""},
		"client with a name":     {certs.KubeAPIServerClientKubeletSignerName, &x509.CertificateRequest{Subject: nodeSubject, DNSNames: []string{"n"}}, client, "DNS subjectAltNames are not allowed"},
		"not a node":             {certs.KubeAPIServerClientKubeletSignerName, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, client, "subject organization is not system:nodes"},
		"kubelet serving":        {certs.KubeletServingSignerName, &x509.CertificateRequest{Subject: nodeSubject, DNSNames: []string{"n"}}, server, ""},
		"serving without a name": {certs.KubeletServingSignerName, &x509.CertificateRequest{Subject: nodeSubject}, server, "DNS or IP subjectAltName is required"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := Validate(tc.signer, request(t, tc.req), tc.usages); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("error %q, want %q", got, tc.want)
			}
		})
	}
}

func TestSign(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := Signer{CA: ca, Key: key, Duration: 24 * time.Hour}
	for name, tc := range map[string]struct {
		asked *int32
		want  time.Duration
	}{
		"the signer's": {nil, 24 * time.Hour}, "asked": {ptr.To[int32](3600), time.Hour}, "too long": {ptr.To[int32](1 << 30), 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := s.Sign(request(t, &x509.CertificateRequest{Subject: nodeSubject}), []certs.KeyUsage{certs.UsageClientAuth}, tc.asked, now)
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(raw)
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if got := cert.NotAfter.Sub(now); got != tc.want || cert.Subject.CommonName != "system:node:n" {
				t.Errorf("valid for %v, want %v; subject %s", got, tc.want, cert.Subject)
			}
			if err := cert.CheckSignatureFrom(ca); err != nil {
				t.Error(err)
			}
		})
	}
}
