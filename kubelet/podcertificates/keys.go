package podcertificates

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
)

// newKey makes a key of a type that the API knows, as PEM, and an empty
// certificate request that it signed, which proves that the kubelet has it.
func newKey(kind string) (key, request []byte, err error) {
	var signer crypto.Signer
	switch kind {
	case "RSA3072":
		signer, err = rsa.GenerateKey(rand.Reader, 3072)
	case "RSA4096":
		signer, err = rsa.GenerateKey(rand.Reader, 4096)
	case "ECDSAP256":
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSAP384":
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECDSAP521":
		signer, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ED25519":
		_, signer, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("unknown key type %q", kind)
	}
	var der []byte
	if err == nil {
		der, err = x509.MarshalPKCS8PrivateKey(signer)
	}
	if err == nil {
		request, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, signer)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("while generating keypair: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), request, nil
}

// certificates are those of a chain, without what else stands between them.
func certificates(chain []byte) []byte {
	var out bytes.Buffer
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			return out.Bytes()
		}
		if block.Type == "CERTIFICATE" {
			out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
}

// adopt is what an earlier kubelet left in the volume, nil if it is of no use
// any more. When to refresh it is not known, and so it is to be soon.
func adopt(dir string, src *v1.PodCertificateProjection, now time.Time) *bundle {
	paths := [2]string{src.KeyPath, src.CertificateChainPath}
	if src.CredentialBundlePath != "" {
		paths = [2]string{src.CredentialBundlePath, src.CredentialBundlePath}
	}
	var data [2][]byte
	for i, p := range paths {
		if p == "" {
			return nil
		}
		var err error
		if data[i], err = os.ReadFile(filepath.Join(dir, p)); err != nil {
			return nil
		}
	}
	key, _ := pem.Decode(data[0])
	pair, err := tls.X509KeyPair(data[1], data[0])
	if err != nil || key == nil || !now.Before(pair.Leaf.NotAfter) {
		return nil
	}
	return &bundle{key: pem.EncodeToMemory(key), chain: certificates(data[1]), refreshAt: now, notAfter: pair.Leaf.NotAfter}
}
