package serviceaccount

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"

	jose "gopkg.in/go-jose/go-jose.v2"
	"k8s.io/client-go/util/keyutil"
)

// PublicKey is a verification key with its id.
type PublicKey struct {
	ID  string
	Key crypto.PublicKey
	// ExcludeFromDiscovery keeps the key out of the published set.
	ExcludeFromDiscovery bool
}

// KeyID names a public key as every API server does: the unpadded URL base64
// of the SHA-256 of its PKIX form.
func KeyID(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("service account key: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// PublicKeys gives ids to keys; private keys are taken for their public half.
// A key that comes twice is kept once.
func PublicKeys(keys ...any) ([]PublicKey, error) {
	var out []PublicKey
	seen := map[string]bool{}
	for _, k := range keys {
		if s, ok := k.(crypto.Signer); ok {
			k = s.Public()
		}
		if _, err := algorithm(k); err != nil {
			return nil, err
		}
		id, err := KeyID(k)
		if err != nil {
			return nil, err
		}
		if !seen[id] {
			seen[id] = true
			out = append(out, PublicKey{ID: id, Key: k})
		}
	}
	return out, nil
}

// PublicKeysFromFiles reads PEM files of public or private keys.
func PublicKeysFromFiles(paths ...string) ([]PublicKey, error) {
	var all []any
	for _, p := range paths {
		keys, err := keyutil.PublicKeysFromFile(p)
		if err != nil {
			return nil, fmt.Errorf("service account key file: %w", err)
		}
		all = append(all, keys...)
	}
	return PublicKeys(all...)
}

// PrivateKeyFromFile reads the signing key.
func PrivateKeyFromFile(path string) (crypto.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("service account signing key: %w", err)
	}
	key, err := keyutil.ParsePrivateKeyPEM(data)
	if err != nil {
		return nil, fmt.Errorf("service account signing key %s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("service account signing key %s: %T cannot sign", path, key)
	}
	return signer, nil
}

// algorithm is the one JWS algorithm of a public key. Deciding it by the key,
// never by the token, leaves nothing to confuse.
func algorithm(key crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
		return "", fmt.Errorf("service account key: unknown curve %s, must be P-256, P-384 or P-521", k.Curve.Params().Name)
	}
	return "", fmt.Errorf("service account key: unknown key type %T, must be RSA or ECDSA", key)
}
