package csrsigning

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	certs "k8s.io/api/certificates/v1"
)

// backdate allows for clocks that are late.
const backdate = 5 * time.Minute

// Signer issues certificates under one CA.
type Signer struct {
	CA  *x509.Certificate
	Key crypto.Signer
	// Duration is the longest validity. Required.
	Duration time.Duration
}

var keyUsages = map[certs.KeyUsage]x509.KeyUsage{
	certs.UsageSigning:           x509.KeyUsageDigitalSignature,
	certs.UsageDigitalSignature:  x509.KeyUsageDigitalSignature,
	certs.UsageContentCommitment: x509.KeyUsageContentCommitment,
	certs.UsageKeyEncipherment:   x509.KeyUsageKeyEncipherment,
	certs.UsageKeyAgreement:      x509.KeyUsageKeyAgreement,
	certs.UsageDataEncipherment:  x509.KeyUsageDataEncipherment,
	certs.UsageCertSign:          x509.KeyUsageCertSign,
	certs.UsageCRLSign:           x509.KeyUsageCRLSign,
	certs.UsageEncipherOnly:      x509.KeyUsageEncipherOnly,
	certs.UsageDecipherOnly:      x509.KeyUsageDecipherOnly,
}

var extUsages = map[certs.KeyUsage]x509.ExtKeyUsage{
	certs.UsageAny:             x509.ExtKeyUsageAny,
	certs.UsageServerAuth:      x509.ExtKeyUsageServerAuth,
	certs.UsageClientAuth:      x509.ExtKeyUsageClientAuth,
	certs.UsageCodeSigning:     x509.ExtKeyUsageCodeSigning,
	certs.UsageEmailProtection: x509.ExtKeyUsageEmailProtection,
	certs.UsageSMIME:           x509.ExtKeyUsageEmailProtection,
	certs.UsageIPsecEndSystem:  x509.ExtKeyUsageIPSECEndSystem,
	certs.UsageIPsecTunnel:     x509.ExtKeyUsageIPSECTunnel,
	certs.UsageIPsecUser:       x509.ExtKeyUsageIPSECUser,
	certs.UsageTimestamping:    x509.ExtKeyUsageTimeStamping,
	certs.UsageOCSPSigning:     x509.ExtKeyUsageOCSPSigning,
	certs.UsageMicrosoftSGC:    x509.ExtKeyUsageMicrosoftServerGatedCrypto,
	certs.UsageNetscapeSGC:     x509.ExtKeyUsageNetscapeServerGatedCrypto,
}

// Parse reads the request of a CSR object.
func Parse(raw []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// Sign issues the certificate in PEM.
func (s Signer) Sign(req *x509.CertificateRequest, usages []certs.KeyUsage, asked *int32, now time.Time) ([]byte, error) {
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("unable to verify certificate request signature: %w", err)
	}
	usage, ext, err := split(usages)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("unable to generate a serial number for %s: %w", req.Subject.CommonName, err)
	}
	until := now.Add(s.Duration)
	if asked != nil {
		// Ten minutes are the least that can be asked for.
		until = now.Add(max(10*time.Minute, min(s.Duration, time.Duration(*asked)*time.Second)))
	}
	from := now.Add(-backdate)
	if d := until.Sub(now); d < 8*time.Hour {
		from = now.Add(-min(backdate, d))
	}
	if !now.Before(s.CA.NotAfter) {
		return nil, fmt.Errorf("the signer has expired: NotAfter=%v", s.CA.NotAfter)
	}
	if until.After(s.CA.NotAfter) {
		until = s.CA.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: req.Subject,
		DNSNames: req.DNSNames, IPAddresses: req.IPAddresses, EmailAddresses: req.EmailAddresses, URIs: req.URIs,
		NotBefore: from, NotAfter: until,
		KeyUsage: usage, ExtKeyUsage: ext, BasicConstraintsValid: true,
	}, s.CA, req.PublicKey, s.Key)
	if err != nil {
		return nil, fmt.Errorf("failed to sign certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func split(usages []certs.KeyUsage) (x509.KeyUsage, []x509.ExtKeyUsage, error) {
	var usage x509.KeyUsage
	var ext []x509.ExtKeyUsage
	var unknown []string
	for _, u := range usages {
		if k, ok := keyUsages[u]; ok {
			usage |= k
		} else if e, ok := extUsages[u]; ok {
			if !slices.Contains(ext, e) {
				ext = append(ext, e)
			}
		} else {
			unknown = append(unknown, string(u))
		}
	}
	if len(unknown) > 0 {
		return 0, nil, fmt.Errorf("unrecognized usage values: %q", unknown)
	}
	slices.Sort(ext)
	return usage, ext, nil
}

// only says whether usages are required and, at most, optional.
func only(usages []certs.KeyUsage, required, optional []certs.KeyUsage) bool {
	for _, u := range required {
		if !slices.Contains(usages, u) {
			return false
		}
	}
	for _, u := range usages {
		if !slices.Contains(required, u) && !slices.Contains(optional, u) {
			return false
		}
	}
	return true
}

// Validate says whether the signer may issue what is asked for.
func Validate(signer string, req *x509.CertificateRequest, usages []certs.KeyUsage) error {
	enc := []certs.KeyUsage{certs.UsageKeyEncipherment}
	switch signer {
	case certs.KubeletServingSignerName:
		return ValidateKubeletServing(req, usages)
	case certs.KubeAPIServerClientKubeletSignerName:
		return ValidateKubeletClient(req, usages)
	case certs.KubeAPIServerClientSignerName:
		if !only(usages, []certs.KeyUsage{certs.UsageClientAuth}, append(enc, certs.UsageDigitalSignature)) {
			return fmt.Errorf("usages did not match %v", []certs.KeyUsage{certs.UsageClientAuth})
		}
	}
	return nil
}

func ofNode(req *x509.CertificateRequest) error {
	if !slices.Equal(req.Subject.Organization, []string{"system:nodes"}) {
		return errors.New("subject organization is not system:nodes")
	}
	if !strings.HasPrefix(req.Subject.CommonName, "system:node:") {
		return errors.New("subject common name does not begin with system:node: ")
	}
	return nil
}

// ValidateKubeletClient says whether the request is a kubelet's for its client
// certificate.
func ValidateKubeletClient(req *x509.CertificateRequest, usages []certs.KeyUsage) error {
	if err := ofNode(req); err != nil {
		return err
	}
	switch {
	case len(req.DNSNames) > 0:
		return errors.New("DNS subjectAltNames are not allowed")
	case len(req.EmailAddresses) > 0:
		return errors.New("email subjectAltNames are not allowed")
	case len(req.IPAddresses) > 0:
		return errors.New("IP subjectAltNames are not allowed")
	case len(req.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	case !only(usages, []certs.KeyUsage{certs.UsageDigitalSignature, certs.UsageClientAuth}, []certs.KeyUsage{certs.UsageKeyEncipherment}):
		return errors.New("usages did not match client auth, digital signature, key encipherment")
	}
	return nil
}

// ValidateKubeletServing says whether the request is a kubelet's for its
// serving certificate.
func ValidateKubeletServing(req *x509.CertificateRequest, usages []certs.KeyUsage) error {
	if err := ofNode(req); err != nil {
		return err
	}
	switch {
	case len(req.DNSNames) == 0 && len(req.IPAddresses) == 0:
		return errors.New("DNS or IP subjectAltName is required")
	case len(req.EmailAddresses) > 0:
		return errors.New("email subjectAltNames are not allowed")
	case len(req.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	case !only(usages, []certs.KeyUsage{certs.UsageDigitalSignature, certs.UsageServerAuth}, []certs.KeyUsage{certs.UsageKeyEncipherment}):
		return errors.New("usages did not match server auth, digital signature, key encipherment")
	}
	return nil
}
