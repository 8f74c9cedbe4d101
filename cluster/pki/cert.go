// Package pki makes, checks and renews a cluster's certificates and keys, in
// kubeadm's files and with kubeadm's names. Plan is the table of what there is;
// Ensure makes what is missing and never replaces what a person put there.
package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// Validity that kubeadm gives.
const (
	CAValidity   = 10 * 365 * 24 * time.Hour
	LeafValidity = 365 * 24 * time.Hour
)

// skew is how far a new certificate's start lies in the past, for clocks that
// run behind.
const skew = 5 * time.Minute

// CA is a certificate authority that can sign.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Leaf is what a leaf certificate says.
type Leaf struct {
	CommonName   string
	Organization []string
	Usages       []x509.ExtKeyUsage
	DNSNames     []string
	IPs          []net.IP
}

// NewCA makes a self-signed authority.
func NewCA(commonName string, alg Algorithm, now time.Time, validity time.Duration) (*CA, error) {
	key, err := NewKey(alg)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		DNSNames:     []string{commonName},
		NotBefore:    now.Add(-skew).UTC(),
		NotAfter:     now.Add(validity).UTC(),
		KeyUsage:     x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{Cert: cert, Key: key}, nil
}

// Sign makes a leaf certificate for key. It never outlives the authority.
func (ca *CA) Sign(leaf Leaf, key crypto.PublicKey, now time.Time, validity time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	notAfter := now.Add(validity).UTC()
	if notAfter.After(ca.Cert.NotAfter) {
		notAfter = ca.Cert.NotAfter
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organization},
		DNSNames:     leaf.DNSNames,
		IPAddresses:  leaf.IPs,
		NotBefore:    now.Add(-skew).UTC(),
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  leaf.Usages,

		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, key, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %q: %w", leaf.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// Issue makes a key and its certificate, both PEM.
func (ca *CA) Issue(leaf Leaf, alg Algorithm, now time.Time, validity time.Duration) (certPEM, keyPEM []byte, err error) {
	key, err := NewKey(alg)
	if err != nil {
		return nil, nil, err
	}
	cert, err := ca.Sign(leaf, key.Public(), now, validity)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = EncodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return EncodeCert(cert), keyPEM, nil
}

// EncodeCert is the PEM form of a certificate.
func EncodeCert(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// ParseCerts reads every certificate of a PEM bundle.
func ParseCerts(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate found")
	}
	return certs, nil
}

// LoadCerts reads a certificate file.
func LoadCerts(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCerts(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return certs, nil
}

// LoadCA reads an authority's certificate and key. A missing key gives a CA
// with a nil Key (kubeadm's external CA mode).
func LoadCA(certPath, keyPath string) (*CA, error) {
	certs, err := LoadCerts(certPath)
	if err != nil {
		return nil, err
	}
	if !certs[0].IsCA {
		return nil, fmt.Errorf("%s: certificate %q is not a CA", certPath, certs[0].Subject.CommonName)
	}
	ca := &CA{Cert: certs[0]}
	key, err := LoadKey(keyPath)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return ca, nil
	case err != nil:
		return nil, err
	}
	if !samePublicKey(key.Public(), ca.Cert.PublicKey) {
		return nil, fmt.Errorf("%s does not belong to the certificate %s", keyPath, certPath)
	}
	ca.Key = key
	return ca, nil
}

// PublicKeyPin is kubeadm's --discovery-token-ca-cert-hash of a certificate:
// "sha256:" and the hash of its SubjectPublicKeyInfo (RFC 7469).
func PublicKeyPin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func newSerial() (*big.Int, error) {
	// RFC 5280 4.1.2.2: positive, at most 20 octets.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return serial.Add(serial, big.NewInt(1)), nil
}
