package serviceaccount

import (
	"crypto"
	"errors"
	"fmt"
	"net/url"
	"strings"

	jose "gopkg.in/go-jose/go-jose.v2"
	"gopkg.in/go-jose/go-jose.v2/jwt"
	corev1 "k8s.io/api/core/v1"
)

// Signer makes tokens of one issuer. It is safe for concurrent use.
type Signer struct {
	issuer string
	signer jose.Signer
	public PublicKey
}

// NewSigner takes an RSA or ECDSA key.
func NewSigner(key crypto.Signer, issuer string) (*Signer, error) {
	if err := ValidateIssuer(issuer); err != nil {
		return nil, err
	}
	pub, err := PublicKeys(key)
	if err != nil {
		return nil, err
	}
	alg, err := algorithm(pub[0].Key)
	if err != nil {
		return nil, err
	}
	s, err := jose.NewSigner(jose.SigningKey{
		Algorithm: alg,
		Key:       jose.JSONWebKey{Algorithm: string(alg), Key: key, KeyID: pub[0].ID, Use: "sig"},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("service account signing key: %w", err)
	}
	return &Signer{issuer: issuer, signer: s, public: pub[0]}, nil
}

// ValidateIssuer holds the rule of --service-account-issuer.
func ValidateIssuer(issuer string) error {
	if issuer == "" {
		return errors.New("service account issuer: must not be empty")
	}
	if strings.Contains(issuer, ":") {
		if _, err := url.Parse(issuer); err != nil {
			return fmt.Errorf("service account issuer %q contained a ':' but was not a valid URL: %w", issuer, err)
		}
	}
	return nil
}

// Issuer is the iss of the tokens.
func (s *Signer) Issuer() string { return s.issuer }

// PublicKey verifies what Sign signs.
func (s *Signer) PublicKey() PublicKey { return s.public }

// Sign makes the token of the claims; the issuer is the signer's.
func (s *Signer) Sign(c *Claims) (string, error) {
	own := *c
	own.Issuer = s.issuer
	token, err := jwt.Signed(s.signer).Claims(&own).CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("sign service account token: %w", err)
	}
	return token, nil
}

// LegacyIssuer is the iss of tokens kept in Secrets.
const LegacyIssuer = "kubernetes/serviceaccount"

// legacyClaims have the layout of tokens kept in Secrets.
type legacyClaims struct {
	jwt.Claims
	Namespace   string `json:"kubernetes.io/serviceaccount/namespace"`
	SecretName  string `json:"kubernetes.io/serviceaccount/secret.name,omitempty"`
	AccountName string `json:"kubernetes.io/serviceaccount/service-account.name"`
	AccountUID  string `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// SignLegacy makes the token that the token controller keeps in a Secret of
// type kubernetes.io/service-account-token. It never expires.
func (s *Signer) SignLegacy(sa *corev1.ServiceAccount, secret *corev1.Secret) (string, error) {
	c := legacyClaims{Namespace: sa.Namespace, SecretName: secret.Name, AccountName: sa.Name, AccountUID: string(sa.UID)}
	c.Issuer = LegacyIssuer
	c.Subject = "system:serviceaccount:" + sa.Namespace + ":" + sa.Name
	token, err := jwt.Signed(s.signer).Claims(&c).CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("sign service account token: %w", err)
	}
	return token, nil
}
