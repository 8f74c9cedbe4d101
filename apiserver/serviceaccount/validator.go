package serviceaccount

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"gopkg.in/go-jose/go-jose.v2/jwt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	apiserversa "k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/klog/v2"

	"skiff/apiserver/request"
)

// deletionLeeway lets a token live while its object is shutting down.
const deletionLeeway = 60 * time.Second

// maxToken bounds what is parsed, in bytes.
const maxToken = 64 << 10

// Getter finds the objects that tokens name.
type Getter interface {
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
}

// ValidatorConfig of bound tokens and, with Legacy, of those kept in Secrets.
type ValidatorConfig struct {
	// Issuers accepted; the first signs.
	Issuers []string
	Keys    []PublicKey
	// Audiences of this API server; the issuer when empty.
	Audiences []string
	Getter    Getter
	// Lookup checks that the service account and secret still exist; upstream's --service-account-lookup.
	Lookup bool
	// TrackLegacyUse, when set, is told that a Secret's token was used; it must not block for long.
	TrackLegacyUse func(ctx context.Context, secret *corev1.Secret)
	// Uses counts the tokens that were good; nil does not.
	Uses *Uses
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Uses counts tokens by what they are: kept in a Secret, past the time they should
// have been read anew, or fresh.
type Uses struct{ Legacy, Stale, Valid atomic.Uint64 }

// Validator authenticates service-account tokens.
type Validator struct {
	issuers   map[string]bool
	keys      []verifyKey
	audiences authenticator.Audiences
	cfg       ValidatorConfig
}

type verifyKey struct {
	PublicKey
	alg string
}

// NewValidator checks the configuration.
func NewValidator(c ValidatorConfig) (*Validator, error) {
	if len(c.Issuers) == 0 {
		return nil, errors.New("service account tokens: no issuer; set --service-account-issuer")
	}
	if len(c.Keys) == 0 {
		return nil, errors.New("service account tokens: no key; set --service-account-key-file")
	}
	if c.Getter == nil {
		return nil, errors.New("service account tokens: no getter")
	}
	if c.Uses == nil {
		c.Uses = &Uses{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	v := &Validator{issuers: map[string]bool{}, audiences: c.Audiences, cfg: c}
	if len(v.audiences) == 0 {
		v.audiences = c.Issuers
	}
	for _, i := range c.Issuers {
		if err := ValidateIssuer(i); err != nil {
			return nil, err
		}
		v.issuers[i] = true
	}
	for _, k := range c.Keys {
		alg, err := algorithm(k.Key)
		if err != nil {
			return nil, err
		}
		v.keys = append(v.keys, verifyKey{k, string(alg)})
	}
	return v, nil
}

// AuthenticateToken has no opinion on tokens of other issuers.
func (v *Validator) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if len(token) > maxToken {
		return nil, false, nil
	}
	iss, ok := unverifiedIssuer(token)
	if !ok || (!v.issuers[iss] && iss != LegacyIssuer) {
		return nil, false, nil
	}
	tok, err := jwt.ParseSigned(token)
	if err != nil {
		return nil, false, nil
	}
	claims := &Claims{}
	legacy := &legacyClaims{}
	dest := any(claims)
	if iss == LegacyIssuer {
		dest = legacy
	}
	if err := v.verify(tok, dest); err != nil {
		return nil, false, err
	}
	// A token without audiences is for this API server.
	tokenAuds, subject := authenticator.Audiences(claims.Audience), claims.Subject
	if iss == LegacyIssuer {
		tokenAuds, subject = authenticator.Audiences(legacy.Audience), legacy.Subject
	}
	if len(tokenAuds) == 0 {
		v.cfg.Uses.Legacy.Add(1)
		request.Annotate(ctx, "authentication.k8s.io/legacy-token", subject)
		tokenAuds = v.audiences
	}
	requested, ok := authenticator.AudiencesFrom(ctx)
	if !ok {
		requested = v.audiences
	}
	auds := tokenAuds.Intersect(requested)
	if len(auds) == 0 {
		return nil, false, fmt.Errorf("token audiences %q is invalid for the target audiences %q", tokenAuds, requested)
	}
	var info *apiserversa.ServiceAccountInfo
	if iss == LegacyIssuer {
		info, err = v.checkLegacy(ctx, token, legacy)
	} else {
		info, err = v.check(ctx, claims)
	}
	if err != nil {
		return nil, false, err
	}
	return &authenticator.Response{User: info.UserInfo(), Audiences: auds}, true, nil
}

// verify tries the key that the token names, else every key.
func (v *Validator) verify(tok *jwt.JSONWebToken, dest any) error {
	if len(tok.Headers) != 1 {
		return errors.New("service account token has not exactly one signature")
	}
	h := tok.Headers[0]
	var errs []error
	for pass := 0; pass < 2; pass++ {
		for _, k := range v.keys {
			if (pass == 0) != (h.KeyID == k.ID) {
				continue
			}
			if h.Algorithm != k.alg {
				continue
			}
			err := tok.Claims(k.Key, dest)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		if h.KeyID != "" && len(errs) > 0 {
			break
		}
	}
	if len(errs) == 0 {
		return errors.New("no keys found")
	}
	return errors.Join(errs...)
}

func unverifiedIssuer(token string) (string, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", false
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return "", false
	}
	return c.Issuer, true
}

func (v *Validator) check(ctx context.Context, c *Claims) (*apiserversa.ServiceAccountInfo, error) {
	now := v.cfg.Now()
	switch err := c.ValidateWithLeeway(jwt.Expected{Time: now}, 0); {
	case err == nil:
	case errors.Is(err, jwt.ErrExpired):
		return nil, errors.New("service account token has expired")
	case errors.Is(err, jwt.ErrNotValidYet):
		return nil, errors.New("service account token is not valid yet")
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return nil, errors.New("service account token is issued in the future")
	default:
		return nil, errors.New("service account token claims could not be validated due to unexpected condition")
	}
	if c.Expiry == nil {
		return nil, errors.New("service account token has no expiry")
	}
	k := c.Kubernetes
	if c.Subject != apiserversa.MakeUsername(k.Namespace, k.ServiceAccount.Name) {
		return nil, errors.New("service account token subject does not match its claims")
	}
	if err := v.checkAccount(ctx, now, k.Namespace, k.ServiceAccount); err != nil {
		return nil, err
	}
	info := &apiserversa.ServiceAccountInfo{
		Namespace: k.Namespace, Name: k.ServiceAccount.Name, UID: k.ServiceAccount.UID, CredentialID: credentialID(c.ID),
	}
	if err := v.checkBound(ctx, now, k, info); err != nil {
		return nil, err
	}
	// Such a token lives for a year, and should have been read anew by now.
	if w := k.WarnAfter; w != nil && now.After(w.Time()) {
		v.cfg.Uses.Stale.Add(1)
		request.Annotate(ctx, "authentication.k8s.io/stale-token", fmt.Sprintf("subject: %s, seconds after warning threshold: %d", c.Subject, now.Unix()-w.Time().Unix()))
	} else {
		v.cfg.Uses.Valid.Add(1)
	}
	return info, nil
}

func credentialID(jti string) string {
	if jti == "" {
		return ""
	}
	return "JTI=" + jti
}

func deleted(o metav1.Object, now time.Time) bool {
	d := o.GetDeletionTimestamp()
	return d != nil && d.Time.Before(now.Add(-deletionLeeway))
}

func (v *Validator) checkAccount(ctx context.Context, now time.Time, ns string, ref Ref) error {
	sa, err := v.cfg.Getter.ServiceAccount(ctx, ns, ref.Name)
	if err != nil {
		klog.V(4).InfoS("Service account of a token not found", "namespace", ns, "name", ref.Name, "err", err)
		return err
	}
	if deleted(sa, now) {
		return fmt.Errorf("service account %s/%s has been deleted", ns, ref.Name)
	}
	if string(sa.UID) != ref.UID {
		return fmt.Errorf("service account UID (%s) does not match claim (%s)", sa.UID, ref.UID)
	}
	return nil
}

// checkBound looks at the secret, pod and node that the token is bound to.
func (v *Validator) checkBound(ctx context.Context, now time.Time, k Private, info *apiserversa.ServiceAccountInfo) error {
	invalid := errors.New("service account token has been invalidated")
	if k.Secret != nil {
		s, err := v.cfg.Getter.Secret(ctx, k.Namespace, k.Secret.Name)
		if err != nil || deleted(s, now) {
			return invalid
		}
		if string(s.UID) != k.Secret.UID {
			return fmt.Errorf("secret UID (%s) does not match service account secret ref claim (%s)", s.UID, k.Secret.UID)
		}
	}
	if k.Pod != nil {
		p, err := v.cfg.Getter.Pod(ctx, k.Namespace, k.Pod.Name)
		if err != nil || deleted(p, now) {
			return invalid
		}
		if string(p.UID) != k.Pod.UID {
			return fmt.Errorf("pod UID (%s) does not match service account pod ref claim (%s)", p.UID, k.Pod.UID)
		}
		info.PodName, info.PodUID = k.Pod.Name, k.Pod.UID
	}
	if k.Node != nil {
		// With a pod, the pod's life decides and the node is only told.
		if k.Pod == nil {
			n, err := v.cfg.Getter.Node(ctx, k.Node.Name)
			if err != nil || deleted(n, now) {
				return invalid
			}
			if string(n.UID) != k.Node.UID {
				return fmt.Errorf("node UID (%s) does not match service account node ref claim (%s)", n.UID, k.Node.UID)
			}
		}
		info.NodeName, info.NodeUID = k.Node.Name, k.Node.UID
	}
	return nil
}
