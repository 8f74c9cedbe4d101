package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Names of the authorities' files, without ending.
const (
	RootCA       = "ca"
	FrontProxyCA = "front-proxy-ca"
	EtcdCA       = "etcd/ca"
)

// Names of the other files, without ending.
const (
	APIServer              = "apiserver"
	APIServerKubeletClient = "apiserver-kubelet-client"
	FrontProxyClient       = "front-proxy-client"
	ServiceAccount         = "sa"
)

// Config is what the certificates depend on.
type Config struct {
	// Algorithm of new keys; empty is ECDSAP256.
	Algorithm Algorithm
	// CAValidity and LeafValidity of new certificates; 0 is kubeadm's 10 years
	// and 1 year.
	CAValidity, LeafValidity time.Duration
	// APIServerNames are the DNS names and IPs that clients reach the API by,
	// beside "kubernetes", "kubernetes.default", … and localhost.
	APIServerNames []string
	// DNSDomain is the cluster's domain; empty is cluster.local.
	DNSDomain string
}

// Certificate is one line of the table: a leaf, its authority and its file.
type Certificate struct {
	// Name is the file without ending, below the PKI folder.
	Name string
	// CA is the authority's file without ending.
	CA   string
	Leaf Leaf
}

// Authorities are the table's authorities: file and common name.
func Authorities() map[string]string {
	return map[string]string{RootCA: "kubernetes", FrontProxyCA: "front-proxy-ca"}
}

// Plan is the table of leaf certificates of a control plane.
func Plan(cfg Config) []Certificate {
	domain := cfg.DNSDomain
	if domain == "" {
		domain = "cluster.local"
	}
	server := Leaf{
		CommonName: "kube-apiserver",
		Usages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:   []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain, "localhost"},
		IPs:        []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback},
	}
	for _, name := range cfg.APIServerNames {
		if ip := net.ParseIP(name); ip != nil {
			if !slices.ContainsFunc(server.IPs, ip.Equal) {
				server.IPs = append(server.IPs, ip)
			}
		} else if !slices.Contains(server.DNSNames, name) {
			server.DNSNames = append(server.DNSNames, name)
		}
	}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return []Certificate{
		{Name: APIServer, CA: RootCA, Leaf: server},
		{Name: APIServerKubeletClient, CA: RootCA, Leaf: Leaf{
			CommonName: "kube-apiserver-kubelet-client", Organization: []string{"kubeadm:cluster-admins"}, Usages: client}},
		{Name: FrontProxyClient, CA: FrontProxyCA, Leaf: Leaf{CommonName: "front-proxy-client", Usages: client}},
	}
}

// Ensure makes every authority, leaf and the service-account key pair that is
// missing in dir. What exists is checked and kept: a leaf that its authority
// did not sign, or an API server certificate that lacks a name, is an error
// that names the file.
func Ensure(dir string, cfg Config, now time.Time) error {
	caValidity, leafValidity := cfg.validities()
	cas := map[string]*CA{}
	for name, cn := range Authorities() {
		ca, err := LoadCA(certFile(dir, name), keyFile(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			ca, err = NewCA(cn, cfg.Algorithm, now, caValidity)
			if err == nil {
				err = writeCA(dir, name, ca)
			}
		}
		if err != nil {
			return fmt.Errorf("certificate authority %s: %w", name, err)
		}
		cas[name] = ca
	}
	for _, c := range Plan(cfg) {
		if err := ensureLeaf(dir, c, cas[c.CA], cfg.Algorithm, now, leafValidity); err != nil {
			return fmt.Errorf("certificate %s: %w", c.Name, err)
		}
	}
	return ensureServiceAccountKey(dir, cfg.Algorithm)
}

func (c Config) validities() (ca, leaf time.Duration) {
	ca, leaf = c.CAValidity, c.LeafValidity
	if ca == 0 {
		ca = CAValidity
	}
	if leaf == 0 {
		leaf = LeafValidity
	}
	return ca, leaf
}

func ensureLeaf(dir string, c Certificate, ca *CA, alg Algorithm, now time.Time, validity time.Duration) error {
	certs, err := LoadCerts(certFile(dir, c.Name))
	if err == nil {
		return checkLeaf(dir, c, certs[0], ca)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if ca.Key == nil {
		return fmt.Errorf("is missing, and %s.key is not here to sign it: copy the certificate or the key", c.CA)
	}
	certPEM, keyPEM, err := ca.Issue(c.Leaf, alg, now, validity)
	if err != nil {
		return err
	}
	return writePair(dir, c.Name, certPEM, keyPEM)
}

func checkLeaf(dir string, c Certificate, cert *x509.Certificate, ca *CA) error {
	if err := cert.CheckSignatureFrom(ca.Cert); err != nil {
		return fmt.Errorf("%s is not signed by %s.crt: remove it to have it made anew", certFile(dir, c.Name), c.CA)
	}
	for _, name := range c.Leaf.DNSNames {
		if !slices.Contains(cert.DNSNames, name) {
			return fmt.Errorf("%s lacks the name %q: remove it and its key to have it made anew", certFile(dir, c.Name), name)
		}
	}
	for _, ip := range c.Leaf.IPs {
		if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			return fmt.Errorf("%s lacks the address %s: remove it and its key to have it made anew", certFile(dir, c.Name), ip)
		}
	}
	return nil
}

func ensureServiceAccountKey(dir string, alg Algorithm) error {
	keyPath := filepath.Join(dir, ServiceAccount+".key")
	key, err := LoadKey(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		if key, err = NewKey(alg); err != nil {
			return err
		}
		var data []byte
		if data, err = EncodeKey(key); err == nil {
			err = writeFile(keyPath, data)
		}
	}
	if err != nil {
		return fmt.Errorf("service account key: %w", err)
	}
	pubPath := filepath.Join(dir, ServiceAccount+".pub")
	if _, err := os.Stat(pubPath); err == nil {
		return nil
	}
	pub, err := EncodePublicKey(key.Public())
	if err != nil {
		return err
	}
	return writeFile(pubPath, pub)
}
