// Package certificates gets the kubelet's certificates from the cluster: the
// first client certificate with a bootstrap token, and new client and serving
// certificates before the old ones expire. It may be used before and beside a
// kubelet.
package certificates

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/certificate"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/client-go/util/connrotation"
	"k8s.io/client-go/util/keyutil"
)

// pendingKey keeps the key of a request under way, so that a kubelet that was
// ended while it waited asks for the same certificate again.
const pendingKey = "kubelet-client.key.tmp"

// BootstrapConfig configures Bootstrap.
type BootstrapConfig struct {
	// Bootstrap is the kubeconfig with the token, Kubeconfig the one to be
	// written, Dir the folder of certificates, /var/lib/kubelet/pki.
	Bootstrap, Kubeconfig, Dir string
	NodeName                   string
}

// Bootstrap makes sure that the node has a kubeconfig with a client
// certificate of its own. It does nothing when there is a valid one.
func Bootstrap(ctx context.Context, cfg BootstrapConfig) error {
	ends := until(cfg.Kubeconfig)
	if time.Now().Before(ends) {
		return nil
	}
	loaded, err := clientcmd.LoadFromFile(cfg.Bootstrap)
	if errors.Is(err, os.ErrNotExist) && !ends.IsZero() {
		return fmt.Errorf("the node's client certificate in %s ended at %s, and the bootstrap kubeconfig that could ask for another is gone: "+
			"put one with a new token (`skiff token create`) at %s, or reset the node and join it anew", cfg.Kubeconfig, ends.UTC().Format(time.RFC3339), cfg.Bootstrap)
	}
	if err != nil {
		return fmt.Errorf("load bootstrap kubeconfig %s: %w", cfg.Bootstrap, err)
	}
	restConfig, err := clientcmd.NewDefaultClientConfig(*loaded, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return fmt.Errorf("bootstrap kubeconfig %s: %w", cfg.Bootstrap, err)
	}
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return err
	}
	store, err := certificate.NewFileStore("kubelet-client", cfg.Dir, cfg.Dir, "", "")
	if err != nil {
		return fmt.Errorf("certificate folder %s: %w", cfg.Dir, err)
	}
	keyFile := filepath.Join(cfg.Dir, pendingKey)
	keyPEM, _, err := keyutil.LoadOrGenerateKeyFile(keyFile)
	if err != nil {
		return fmt.Errorf("key file %s: %w", keyFile, err)
	}
	certPEM, err := request(ctx, client, keyPEM, cfg.NodeName)
	if err != nil {
		return err
	}
	if _, err := store.Update(certPEM, keyPEM); err != nil {
		return fmt.Errorf("store client certificate: %w", err)
	}
	if err := os.Remove(keyFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return writeKubeconfig(cfg.Kubeconfig, restConfig, store.CurrentPath())
}

// until is when the client certificate of a kubeconfig ends, zero where there is none.
func until(path string) time.Time {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return time.Time{}
	}
	data := config.CertData
	if len(data) == 0 && config.CertFile != "" {
		if data, err = os.ReadFile(config.CertFile); err != nil {
			return time.Time{}
		}
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return time.Time{}
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return time.Time{}
		}
		return cert.NotAfter
	}
}

func subject(nodeName string) pkix.Name {
	return pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:" + nodeName}
}

func request(ctx context.Context, client kubernetes.Interface, keyPEM []byte, nodeName string) ([]byte, error) {
	key, err := keyutil.ParsePrivateKeyPEM(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("client key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject(nodeName)}, key)
	if err != nil {
		return nil, err
	}
	usages := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	body := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	name, uid, err := csr.RequestCertificateWithContext(ctx, client, body, "", certificatesv1.KubeAPIServerClientKubeletSignerName, nil, usages, key)
	if err != nil {
		return nil, fmt.Errorf("request client certificate: %w", err)
	}
	got, err := csr.WaitForCertificate(ctx, client, name, uid)
	if err != nil {
		return nil, fmt.Errorf("wait for certificate signing request %s: %w; approve it with `kubectl certificate approve %s`", name, err, name)
	}
	return got, nil
}

func writeKubeconfig(path string, from *rest.Config, pair string) error {
	caFile, caData := from.CAFile, from.CAData
	if len(caData) > 0 {
		caFile = ""
	}
	out := clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"default-cluster": {
			Server: from.Host, InsecureSkipTLSVerify: from.Insecure, CertificateAuthority: caFile, CertificateAuthorityData: caData, TLSServerName: from.ServerName,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"default-auth": {ClientCertificate: pair, ClientKey: pair}},
		Contexts:       map[string]*clientcmdapi.Context{"default-context": {Cluster: "default-cluster", AuthInfo: "default-auth", Namespace: "default"}},
		CurrentContext: "default-context",
	}
	if err := clientcmd.WriteToFile(out, path); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	return nil
}

// Rotator renews one certificate.
type Rotator struct {
	manager certificate.Manager
	// dialer knows the connections that Dial's transport made.
	dialer *connrotation.Dialer
}

func newKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// NewClient renews the client certificate in dir. Its current one is what a
// transport made by Dial uses.
func NewClient(client func() (kubernetes.Interface, error), dir, nodeName string) (*Rotator, error) {
	store, err := certificate.NewFileStore("kubelet-client", dir, dir, "", "")
	if err != nil {
		return nil, fmt.Errorf("certificate folder %s: %w", dir, err)
	}
	return rotator(client, store, "kubelet-client", certificatesv1.KubeAPIServerClientKubeletSignerName, func() *x509.CertificateRequest {
		return &x509.CertificateRequest{Subject: subject(nodeName)}
	}, certificatesv1.UsageClientAuth)
}

// NewServer gets and renews the serving certificate for the addresses that the node
// has now; when it has got another, there is another certificate.
func NewServer(client func() (kubernetes.Interface, error), dir, nodeName string, addresses func() []v1.NodeAddress) (*Rotator, error) {
	store, err := certificate.NewFileStore("kubelet-server", dir, dir, "", "")
	if err != nil {
		return nil, fmt.Errorf("certificate folder %s: %w", dir, err)
	}
	return rotator(client, store, "kubelet-server", certificatesv1.KubeletServingSignerName, func() *x509.CertificateRequest {
		return servingRequest(nodeName, addresses())
	}, certificatesv1.UsageServerAuth)
}

// servingRequest asks for a certificate of the node's name and all of its IP
// addresses. Other names that a cloud gives it are left out: the approver knows no
// way to tell that they are this node's, and would refuse the whole request.
func servingRequest(nodeName string, addresses []v1.NodeAddress) *x509.CertificateRequest {
	r := &x509.CertificateRequest{Subject: subject(nodeName), DNSNames: []string{nodeName}}
	var known []string
	for _, a := range addresses {
		if ip := net.ParseIP(a.Address); ip != nil && !slices.Contains(known, ip.String()) {
			known = append(known, ip.String())
			r.IPAddresses = append(r.IPAddresses, ip)
		}
	}
	return r
}

func rotator(client func() (kubernetes.Interface, error), store certificate.Store, name, signer string, template func() *x509.CertificateRequest, usage certificatesv1.KeyUsage) (*Rotator, error) {
	m, err := certificate.NewManager(&certificate.Config{
		ClientsetFn: func(*tls.Certificate) (kubernetes.Interface, error) { return client() },
		GetTemplate: template, SignerName: signer, CertificateStore: store, Name: name, GenerateKey: newKey,
		Usages: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, usage},
	})
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", name, err)
	}
	d := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	return &Rotator{manager: m, dialer: connrotation.NewDialer(d.DialContext)}, nil
}

// lookPeriod is how soon after a renewal connections are made anew.
const lookPeriod = time.Second

// Run renews until the context ends. A connection shows the certificate that it
// was made with to its end, and the server refuses that once it has expired: those
// made with an old one are closed.
func (r *Rotator) Run(ctx context.Context) error {
	last := r.manager.Current()
	r.manager.Start()
	defer r.manager.Stop()
	tick := time.NewTicker(lookPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if now := r.manager.Current(); now != last {
			last = now
			r.dialer.CloseAll()
		}
	}
}

// GetCertificate is for a server's TLS configuration.
func (r *Rotator) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := r.manager.Current(); c != nil {
		return c, nil
	}
	return nil, errors.New("no serving certificate available for the kubelet")
}

// Dial makes a client configuration use the current certificate at each
// handshake, and new connections once it has changed and Run runs.
func (r *Rotator) Dial(config *rest.Config) (*rest.Config, error) {
	out := rest.CopyConfig(config)
	tlsConfig, err := rest.TLSConfigFor(out)
	if err != nil {
		return nil, err
	}
	if tlsConfig == nil {
		return out, nil
	}
	tlsConfig.Certificates = nil
	tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if c := r.manager.Current(); c != nil {
			return c, nil
		}
		return &tls.Certificate{}, nil
	}
	out.Transport = &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, TLSHandshakeTimeout: 10 * time.Second, MaxIdleConnsPerHost: 25,
		DialContext: r.dialer.DialContext, ForceAttemptHTTP2: true,
		IdleConnTimeout: 90 * time.Second,
	}
	out.TLSClientConfig = rest.TLSClientConfig{}
	return out, nil
}
