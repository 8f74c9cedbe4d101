package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// RenewAfter is the part of a leaf's life after which it is renewed: two
// thirds, so that a cluster that was off for months still comes back.
func RenewAfter(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	return cert.NotBefore.Add(life * 2 / 3)
}

// Expiry describes one certificate for `skiff certs check-expiration`.
type Expiry struct {
	Name, CA string
	Expires  time.Time
	IsCA     bool
}

// Expirations lists the certificates in dir that exist, authorities last.
func Expirations(dir string, cfg Config) ([]Expiry, error) {
	var out []Expiry
	for _, c := range Plan(cfg) {
		certs, err := LoadCerts(certFile(dir, c.Name))
		if err != nil {
			return nil, err
		}
		out = append(out, Expiry{Name: c.Name, CA: c.CA, Expires: certs[0].NotAfter})
	}
	for name := range Authorities() {
		certs, err := LoadCerts(certFile(dir, name))
		if err != nil {
			return nil, err
		}
		out = append(out, Expiry{Name: name, Expires: certs[0].NotAfter, IsCA: true})
	}
	return out, nil
}

// Renew signs the leaf called name again, with what the present certificate
// says and a new key. Whoever reads the files through Reloading has it at once.
func Renew(dir, name string, cfg Config, now time.Time) error {
	_, validity := cfg.validities()
	for _, c := range Plan(cfg) {
		if c.Name != name {
			continue
		}
		ca, err := LoadCA(certFile(dir, c.CA), keyFile(dir, c.CA))
		if err != nil {
			return err
		}
		if ca.Key == nil {
			return fmt.Errorf("renew %s: %s.key is not on this machine", name, c.CA)
		}
		old, err := LoadCerts(certFile(dir, c.Name))
		if err != nil {
			return err
		}
		certPEM, keyPEM, err := ca.Issue(LeafOf(old[0]), cfg.Algorithm, now, validity)
		if err != nil {
			return err
		}
		return writePair(dir, c.Name, certPEM, keyPEM)
	}
	return fmt.Errorf("certificate %q is not known", name)
}

// RenewDue renews every leaf that is past RenewAfter and returns their names.
func RenewDue(dir string, cfg Config, now time.Time) (renewed []string, err error) {
	for _, c := range Plan(cfg) {
		certs, err := LoadCerts(certFile(dir, c.Name))
		if err != nil {
			return renewed, err
		}
		if now.Before(RenewAfter(certs[0])) {
			continue
		}
		if err := Renew(dir, c.Name, cfg, now); err != nil {
			return renewed, err
		}
		renewed = append(renewed, c.Name)
	}
	return renewed, nil
}

// LeafOf is what an existing certificate says.
func LeafOf(cert *x509.Certificate) Leaf {
	return Leaf{
		CommonName: cert.Subject.CommonName, Organization: cert.Subject.Organization,
		Usages: cert.ExtKeyUsage, DNSNames: cert.DNSNames, IPs: cert.IPAddresses,
	}
}

// Reloading serves a certificate from files that may be replaced while it is
// in use: a handshake that finds the files newer loads them first.
type Reloading struct {
	certPath, keyPath string

	mu      sync.Mutex // guards what follows
	cert    *tls.Certificate
	modTime time.Time
}

// NewReloading loads the pair once, so that a broken file is found at start.
func NewReloading(certPath, keyPath string) (*Reloading, error) {
	r := &Reloading{certPath: certPath, keyPath: keyPath}
	if _, err := r.load(); err != nil {
		return nil, err
	}
	return r, nil
}

// GetCertificate is for tls.Config of a server.
func (r *Reloading) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.load() }

// GetClientCertificate is for tls.Config of a client.
func (r *Reloading) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return r.load()
}

// load keeps the old pair while a new one is only half written: Renew writes
// the key first, so for a moment the two do not match.
func (r *Reloading) load() (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(r.certPath)
	if err != nil {
		if r.cert != nil {
			return r.cert, nil
		}
		return nil, err
	}
	if r.cert != nil && info.ModTime().Equal(r.modTime) {
		return r.cert, nil
	}
	cert, err := tls.LoadX509KeyPair(r.certPath, r.keyPath)
	if err != nil {
		if r.cert != nil {
			return r.cert, nil
		}
		return nil, fmt.Errorf("load %s and %s: %w", r.certPath, r.keyPath, err)
	}
	r.cert, r.modTime = &cert, info.ModTime()
	return r.cert, nil
}
