package noderestriction

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"

	"skiff/apiserver/admission"
)

// signing lets a node ask for certificates of kubelets in its own name alone.
func signing(a *admission.Attributes) error {
	o, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Operation != admission.Create {
		return nil
	}
	switch o.Spec.SignerName {
	case certificatesv1.KubeletServingSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName:
	default:
		return nil
	}
	block, _ := pem.Decode(o.Spec.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return fmt.Errorf("unable to parse csr: %w", errors.New("PEM block type must be CERTIFICATE REQUEST"))
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return fmt.Errorf("unable to parse csr: %w", err)
	}
	if req.Subject.CommonName != a.User.GetName() {
		return fmt.Errorf("can only create a node CSR with CN=%s", a.User.GetName())
	}
	return nil
}
