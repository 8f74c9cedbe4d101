// Package tokencleaner deletes bootstrap tokens when they expire.
package tokencleaner

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	bootstrap "k8s.io/cluster-bootstrap/token/api"

	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller deletes expired tokens.
type Controller struct {
	*loop.Loop
	parts   loop.Parts
	secrets corelisters.SecretLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("token-cleaner")
	if err != nil {
		return nil, err
	}
	secrets := parts.Informers.Core().V1().Secrets()
	t := &Controller{parts: parts, secrets: secrets.Lister()}
	t.Loop = loop.New("token-cleaner", parts, t.sync)
	t.On(secrets.Informer(), loop.Changed(func(s *v1.Secret) {
		if s.Namespace == metav1.NamespaceSystem && s.Type == bootstrap.SecretTypeBootstrapToken {
			t.Enqueue(s)
		}
	}))
	return t, nil
}

// Left is how long the token lives; false when for ever. An unreadable date
// counts as past.
func Left(s *v1.Secret, now time.Time) (time.Duration, bool) {
	raw := string(s.Data[bootstrap.BootstrapTokenExpirationKey])
	if raw == "" {
		return 0, false
	}
	at, err := time.Parse(time.RFC3339, raw)
	if err != nil {
		return 0, true
	}
	return max(0, at.Sub(now)), true
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	s, err := c.secrets.Secrets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	left, ok := Left(s, c.parts.Clock.Now())
	if !ok || s.Type != bootstrap.SecretTypeBootstrapToken {
		return nil
	}
	if left > 0 {
		c.AddAfter(key, left)
		return nil
	}
	err = c.parts.Client.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(s.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
