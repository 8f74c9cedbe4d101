package noderestriction

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/admission"
)

// Covers: api.node-authorizer
func TestSigning(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ signer, cn, want string }{
		"its own":          {certificatesv1.KubeletServingSignerName, "system:node:n", ""},
		"another node's":   {certificatesv1.KubeletServingSignerName, "system:node:m", "can only create a node CSR with CN=system:node:n"},
		"another client":   {certificatesv1.KubeAPIServerClientKubeletSignerName, "admin", "can only create a node CSR with CN=system:node:n"},
		"no request":       {certificatesv1.KubeletServingSignerName, "", "unable to parse csr: PEM block type must be CERTIFICATE REQUEST"},
		"another's signer": {"example.com/s", "admin", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: tc.signer}}
			if tc.cn != "" {
				der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: tc.cn}}, key)
				if err != nil {
					t.Fatal(err)
				}
				o.Spec.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
			}
			err := (&Plugin{}).Admit(t.Context(), &admission.Attributes{
				Operation: admission.Create, Name: "c", Object: o, Resource: certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests"),
				User: &user.DefaultInfo{Name: "system:node:n", Groups: []string{user.NodesGroup}},
			})
			if got := ""; err != nil {
				got = err.Error()
				if tc.want == "" || !strings.HasSuffix(got, tc.want) {
					t.Errorf("got %s, want %q", got, tc.want)
				}
			} else if tc.want != "" {
				t.Errorf("let through, want %s", tc.want)
			}
		})
	}
}
