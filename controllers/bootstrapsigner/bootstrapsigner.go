// Package bootstrapsigner signs the cluster-info ConfigMap with every bootstrap
// token, so that a node that joins can trust what it reads without a CA.
package bootstrapsigner

import (
	"context"
	"maps"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	bootstrap "k8s.io/cluster-bootstrap/token/api"
	"k8s.io/cluster-bootstrap/token/jws"

	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller signs cluster-info.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	secrets corelisters.SecretLister
	maps    corelisters.ConfigMapLister
}

const key = metav1.NamespacePublic + "/" + bootstrap.ConfigMapClusterInfo

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("bootstrap-signer")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	b := &Controller{parts: parts, secrets: core.Secrets().Lister(), maps: core.ConfigMaps().Lister()}
	b.Loop = loop.New("bootstrap-signer", parts, b.sync)
	b.On(core.ConfigMaps().Informer(), loop.Changed(func(m *v1.ConfigMap) {
		if m.Namespace == metav1.NamespacePublic && m.Name == bootstrap.ConfigMapClusterInfo {
			b.Add(key)
		}
	}))
	b.On(core.Secrets().Informer(), loop.Each(func(s *v1.Secret) {
		if s.Namespace == metav1.NamespaceSystem && s.Type == bootstrap.SecretTypeBootstrapToken {
			b.Add(key)
		}
	}))
	return b, nil
}

// Token is a bootstrap token's two halves.
type Token struct{ ID, Secret string }

// Signing returns the token of a secret that may sign now.
func Signing(s *v1.Secret, now time.Time) (Token, bool) {
	t := Token{string(s.Data[bootstrap.BootstrapTokenIDKey]), string(s.Data[bootstrap.BootstrapTokenSecretKey])}
	if s.Type != bootstrap.SecretTypeBootstrapToken || t.ID == "" || t.Secret == "" ||
		s.Name != bootstrap.BootstrapTokenSecretPrefix+t.ID || s.DeletionTimestamp != nil {
		return Token{}, false
	}
	if string(s.Data[bootstrap.BootstrapTokenUsageSigningKey]) != "true" {
		return Token{}, false
	}
	if raw := string(s.Data[bootstrap.BootstrapTokenExpirationKey]); raw != "" {
		at, err := time.Parse(time.RFC3339, raw)
		if err != nil || !now.Before(at) {
			return Token{}, false
		}
	}
	return t, true
}

// Sign is the ConfigMap's data with exactly one signature for each token.
func Sign(data map[string]string, tokens []Token) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range data {
		if !strings.HasPrefix(k, bootstrap.JWSSignatureKeyPrefix) {
			out[k] = v
		}
	}
	content, ok := data[bootstrap.KubeConfigKey]
	if !ok {
		return out, nil
	}
	for _, t := range tokens {
		signature, err := jws.ComputeDetachedSignature(content, t.ID, t.Secret)
		if err != nil {
			return nil, err
		}
		out[bootstrap.JWSSignatureKeyPrefix+t.ID] = signature
	}
	return out, nil
}

func (c *Controller) sync(ctx context.Context, _ string) error {
	m, err := c.maps.ConfigMaps(metav1.NamespacePublic).Get(bootstrap.ConfigMapClusterInfo)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	secrets, err := c.secrets.Secrets(metav1.NamespaceSystem).List(labels.Everything())
	if err != nil {
		return err
	}
	var tokens []Token
	for _, s := range secrets {
		if t, ok := Signing(s, c.parts.Clock.Now()); ok {
			tokens = append(tokens, t)
		}
	}
	data, err := Sign(m.Data, tokens)
	if err != nil {
		return err
	}
	if maps.Equal(data, m.Data) {
		return nil
	}
	next := m.DeepCopy()
	next.Data = data
	_, err = c.parts.Client.CoreV1().ConfigMaps(metav1.NamespacePublic).Update(ctx, next, metav1.UpdateOptions{})
	return err
}
