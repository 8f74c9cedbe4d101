package serviceaccounttoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"

	jose "gopkg.in/go-jose/go-jose.v2"
	v1 "k8s.io/api/core/v1"
)

// issuer is that of tokens kept in Secrets; it never changes with the server's.
const issuer = "kubernetes/serviceaccount"

type claims struct {
	Issuer    string `json:"iss"`
	Namespace string `json:"kubernetes.io/serviceaccount/namespace"`
	Secret    string `json:"kubernetes.io/serviceaccount/secret.name"`
	Account   string `json:"kubernetes.io/serviceaccount/service-account.name"`
	UID       string `json:"kubernetes.io/serviceaccount/service-account.uid"`
	Subject   string `json:"sub"`
}

// signer makes tokens with the key of the service accounts.
type signer struct{ jose.Signer }

func newSigner(key crypto.Signer) (*signer, error) {
	var algorithm jose.SignatureAlgorithm
	switch k := key.(type) {
	case *rsa.PrivateKey:
		algorithm = jose.RS256
	case *ecdsa.PrivateKey:
		switch bits := k.Curve.Params().BitSize; bits {
		case 256:
			algorithm = jose.ES256
		case 384:
			algorithm = jose.ES384
		case 521:
			algorithm = jose.ES512
		default:
			return nil, fmt.Errorf("serviceaccount-token: key has a curve of %d bits: use P-256, P-384 or P-521", bits)
		}
	default:
		return nil, fmt.Errorf("serviceaccount-token: key is a %T: use an RSA or ECDSA key", key)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("serviceaccount-token: encode the public key: %w", err)
	}
	sum := sha256.Sum256(der)
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id, Algorithm: string(algorithm), Use: "sig"}}, nil)
	if err != nil {
		return nil, fmt.Errorf("serviceaccount-token: %w", err)
	}
	return &signer{s}, nil
}

func (s *signer) token(account *v1.ServiceAccount, secret *v1.Secret) (string, error) {
	raw, err := json.Marshal(claims{
		Issuer: issuer, Namespace: account.Namespace, Secret: secret.Name, Account: account.Name, UID: string(account.UID),
		Subject: "system:serviceaccount:" + account.Namespace + ":" + account.Name,
	})
	if err != nil {
		return "", err
	}
	signed, err := s.Sign(raw)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed.CompactSerialize()
}
