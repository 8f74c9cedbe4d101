// Package kubeconfig writes the kubeconfig files that kubeadm writes, each with
// a client certificate of its own.
package kubeconfig

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"skiff/cluster/pki"
)

// AdminsGroup is the group of admin.conf; it is bound to cluster-admin. The
// group of super-admin.conf, system:masters, cannot be taken back by RBAC.
const AdminsGroup = "kubeadm:cluster-admins"

// User is one kubeconfig: its file and whom its certificate names.
type User struct {
	// File is the name below /etc/kubernetes, such as "admin.conf".
	File         string
	CommonName   string
	Organization []string
}

// Plan is kubeadm's table of kubeconfigs for a control-plane node.
func Plan(nodeName string) []User {
	return []User{
		{File: "admin.conf", CommonName: "kubernetes-admin", Organization: []string{AdminsGroup}},
		{File: "super-admin.conf", CommonName: "kubernetes-super-admin", Organization: []string{"system:masters"}},
		{File: "kubelet.conf", CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}},
		{File: "controller-manager.conf", CommonName: "system:kube-controller-manager"},
		{File: "scheduler.conf", CommonName: "system:kube-scheduler"},
	}
}

// Config is what the files share.
type Config struct {
	// Dir is /etc/kubernetes; PKI the folder with ca.crt and ca.key.
	Dir, PKI string
	// ClusterName is the name in the file; empty is "kubernetes".
	ClusterName string
	// Server is the API's URL.
	Server    string
	Algorithm pki.Algorithm
	// Validity of the client certificates; 0 is pki.LeafValidity.
	Validity time.Duration
}

// Ensure writes each kubeconfig that is missing. One that exists is kept when
// it trusts the same authority and names the same server; otherwise the error
// names the file.
func Ensure(cfg Config, users []User, now time.Time) error {
	ca, err := pki.LoadCA(filepath.Join(cfg.PKI, "ca.crt"), filepath.Join(cfg.PKI, "ca.key"))
	if err != nil {
		return err
	}
	for _, user := range users {
		path := filepath.Join(cfg.Dir, user.File)
		existing, err := clientcmd.LoadFromFile(path)
		if err == nil {
			if err := check(existing, ca.Cert, cfg.Server); err != nil {
				return fmt.Errorf("kubeconfig %s: %w: remove it to have it made anew", path, err)
			}
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("kubeconfig %s: %w: remove it to have it made anew", path, err)
		}
		out, err := New(cfg, ca, user, now)
		if err != nil {
			return fmt.Errorf("kubeconfig %s: %w", path, err)
		}
		if err := Write(path, out); err != nil {
			return err
		}
	}
	return nil
}

// New makes a kubeconfig with a new client certificate in it.
func New(cfg Config, ca *pki.CA, user User, now time.Time) (*clientcmdapi.Config, error) {
	if ca.Key == nil {
		return nil, errors.New("the key of the cluster's CA is not on this machine")
	}
	validity := cfg.Validity
	if validity == 0 {
		validity = pki.LeafValidity
	}
	certPEM, keyPEM, err := ca.Issue(pki.Leaf{
		CommonName: user.CommonName, Organization: user.Organization,
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, cfg.Algorithm, now, validity)
	if err != nil {
		return nil, err
	}
	out := skeleton(cfg.ClusterName, cfg.Server, user.CommonName, pki.EncodeCert(ca.Cert))
	out.AuthInfos[user.CommonName] = &clientcmdapi.AuthInfo{ClientCertificateData: certPEM, ClientKeyData: keyPEM}
	return out, nil
}

// WithToken makes a kubeconfig that authenticates with a bearer token.
func WithToken(clusterName, server, user, token string, caPEM []byte) *clientcmdapi.Config {
	out := skeleton(clusterName, server, user, caPEM)
	out.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	return out
}

// WithCertFile makes a kubeconfig whose certificate and key are in files that
// may be replaced (the kubelet's, which rotates).
func WithCertFile(clusterName, server, user, certFile, keyFile string, caPEM []byte) *clientcmdapi.Config {
	out := skeleton(clusterName, server, user, caPEM)
	out.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: certFile, ClientKey: keyFile}
	return out
}

func skeleton(clusterName, server, user string, caPEM []byte) *clientcmdapi.Config {
	if clusterName == "" {
		clusterName = "kubernetes"
	}
	context := user + "@" + clusterName
	out := clientcmdapi.NewConfig()
	out.Clusters[clusterName] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: caPEM}
	out.Contexts[context] = &clientcmdapi.Context{Cluster: clusterName, AuthInfo: user}
	out.CurrentContext = context
	return out
}

// Write replaces path as a whole, readable by root alone.
func Write(path string, cfg *clientcmdapi.Config) error {
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func check(cfg *clientcmdapi.Config, ca *x509.Certificate, server string) error {
	context := cfg.Contexts[cfg.CurrentContext]
	if context == nil {
		return fmt.Errorf("current-context %q does not exist", cfg.CurrentContext)
	}
	cluster := cfg.Clusters[context.Cluster]
	if cluster == nil {
		return fmt.Errorf("cluster %q does not exist", context.Cluster)
	}
	caPEM := cluster.CertificateAuthorityData
	if len(caPEM) == 0 && cluster.CertificateAuthority != "" {
		var err error
		if caPEM, err = os.ReadFile(cluster.CertificateAuthority); err != nil {
			return err
		}
	}
	certs, err := pki.ParseCerts(caPEM)
	if err != nil {
		return fmt.Errorf("certificate-authority-data: %w", err)
	}
	if !bytes.Equal(certs[0].Raw, ca.Raw) {
		return errors.New("it trusts another certificate authority")
	}
	if cluster.Server != server {
		return fmt.Errorf("it names the server %s, not %s", cluster.Server, server)
	}
	return nil
}
