package setup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/jws"

	"skiff/cluster/config"
	"skiff/cluster/pki"
	"skiff/cluster/token"
)

// trust is what discovery learns: whom to speak to and whom to trust.
type trust struct {
	server string
	caPEM  []byte
}

const maxClusterInfo = 1 << 20

// discover learns the cluster's authority, from a kubeconfig file or from the
// ConfigMap cluster-info that the bootstrap token has signed.
func discover(ctx context.Context, d config.Discovery, timeout time.Duration) (trust, error) {
	if d.File != nil {
		cfg, err := clientcmd.LoadFromFile(d.File.KubeConfigPath)
		if err != nil {
			return trust{}, fmt.Errorf("discovery file %s: %w", d.File.KubeConfigPath, err)
		}
		return trustOf(cfg)
	}
	bt := d.BootstrapToken
	t, err := token.Parse(bt.Token)
	if err != nil {
		return trust{}, err
	}
	host, port, err := config.SplitEndpoint(bt.APIServerEndpoint, config.DefaultBindPort)
	if err != nil {
		return trust{}, err
	}
	var found trust
	var unsigned time.Time // when it was first seen so
	err = retry(ctx, timeout, func(ctx context.Context) error {
		// The answer is trusted by its signature and the pin, not by its sender.
		info, err := fetchClusterInfo(ctx, host, port, nil)
		if err != nil {
			return err
		}
		found, err = verifyClusterInfo(info, t, bt.CACertHashes, bt.UnsafeSkipCAVerification)
		if u := (unsignedError{}); errors.As(err, &u) {
			if unsigned.IsZero() {
				unsigned = time.Now()
			} else if time.Since(unsigned) > signing {
				return fatal{err}
			}
		}
		if err != nil {
			return err
		}
		again, err := fetchClusterInfo(ctx, host, port, found.caPEM)
		if err != nil {
			return fmt.Errorf("the server at %s:%s does not prove to be of the cluster whose token this is: %w", host, port, err)
		}
		if again.Data[bootstrapapi.KubeConfigKey] != info.Data[bootstrapapi.KubeConfigKey] {
			return fatal{errors.New("cluster-info differs when read with the cluster's authority checked: something stands between this node and the cluster")}
		}
		return nil
	})
	var f fatal
	if errors.As(err, &f) {
		err = f.error
	}
	return found, err
}

// fatal is an error that trying again does not cure.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// fetchClusterInfo reads the ConfigMap as anyone may. Without caPEM the
// server's certificate is not checked.
func fetchClusterInfo(ctx context.Context, host, port string, caPEM []byte) (*corev1.ConfigMap, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: caPEM == nil}
	if caPEM != nil {
		tlsConfig.RootCAs = x509.NewCertPool()
		tlsConfig.RootCAs.AppendCertsFromPEM(caPEM)
	}
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	u := url.URL{Scheme: "https", Host: host + ":" + port, Path: "/api/v1/namespaces/kube-public/configmaps/" + bootstrapapi.ConfigMapClusterInfo}
	if ip := host; len(ip) > 0 && slices.Contains([]byte(ip), ':') {
		u.Host = "[" + ip + "]:" + port
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read cluster-info: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxClusterInfo))
	if err != nil {
		return nil, fmt.Errorf("read cluster-info: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read cluster-info: the server answered %s", resp.Status)
	}
	cm := &corev1.ConfigMap{}
	if err := json.Unmarshal(body, cm); err != nil {
		return nil, fmt.Errorf("read cluster-info: %w", err)
	}
	return cm, nil
}

// signing is how long a token may be older than cluster-info's signature by it.
// kubeadm waits for all of its discovery timeout, and says nothing meanwhile.
const signing = 10 * time.Second

// unsignedError tells that cluster-info has no signature by the token.
type unsignedError struct{ id string }

func (e unsignedError) Error() string {
	return fmt.Sprintf("cluster-info is not signed with the token %s: it has expired, or is not one of this cluster; make one with `skiff token create`", e.id)
}

// verifyClusterInfo checks the token's signature and the pins.
func verifyClusterInfo(info *corev1.ConfigMap, t token.Token, pins []string, skipPin bool) (trust, error) {
	doc := info.Data[bootstrapapi.KubeConfigKey]
	if doc == "" {
		return trust{}, errors.New("cluster-info holds no kubeconfig yet")
	}
	signature := info.Data[bootstrapapi.JWSSignatureKeyPrefix+t.ID]
	if signature == "" {
		return trust{}, unsignedError{t.ID}
	}
	if !jws.DetachedTokenIsValid(signature, doc, t.ID, t.Secret) {
		return trust{}, fatal{fmt.Errorf("cluster-info's signature does not fit the token %s: the token's secret is wrong, or the answer was changed on its way", t.ID)}
	}
	cfg, err := clientcmd.Load([]byte(doc))
	if err != nil {
		return trust{}, fmt.Errorf("cluster-info: %w", err)
	}
	found, err := trustOf(cfg)
	if err != nil {
		return trust{}, err
	}
	if skipPin && len(pins) == 0 {
		return found, nil
	}
	certs, err := pki.ParseCerts(found.caPEM)
	if err != nil {
		return trust{}, fmt.Errorf("cluster-info: certificate authority: %w", err)
	}
	for _, cert := range certs {
		if slices.Contains(pins, pki.PublicKeyPin(cert)) {
			return found, nil
		}
	}
	return trust{}, fatal{fmt.Errorf("none of the cluster's public keys has the hash that --discovery-token-ca-cert-hash gives (the cluster's is %s): this is another cluster, or the hash is mistyped", pki.PublicKeyPin(certs[0]))}
}

func trustOf(cfg *clientcmdapi.Config) (trust, error) {
	for _, cluster := range cfg.Clusters {
		ca := cluster.CertificateAuthorityData
		if len(ca) == 0 {
			return trust{}, errors.New("the discovery kubeconfig has no certificate-authority-data")
		}
		return trust{server: cluster.Server, caPEM: ca}, nil
	}
	return trust{}, errors.New("the discovery kubeconfig names no cluster")
}
