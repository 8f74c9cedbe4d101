// Package serviceaccounttoken fills the Secrets that ask for a ServiceAccount's
// token, and removes them with the account.
package serviceaccounttoken

import (
	"bytes"
	"context"
	"crypto"
	"errors"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/controllers/loop"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
	// Key signs the tokens. Required.
	Key crypto.Signer
	// CA is the bundle that goes with each token.
	CA []byte
}

// Controller keeps token Secrets.
type Controller struct {
	*loop.Loop
	parts    loop.Parts
	signer   *signer
	ca       []byte
	secrets  corelisters.SecretLister
	accounts corelisters.ServiceAccountLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("serviceaccount-token")
	if c.Key == nil {
		err = errors.Join(err, errors.New("serviceaccount-token: Key is nil: give the key of the file named by ServiceAccountKeyFile"))
	}
	if err != nil {
		return nil, err
	}
	signer, err := newSigner(c.Key)
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	t := &Controller{parts: parts, signer: signer, ca: c.CA, secrets: core.Secrets().Lister(), accounts: core.ServiceAccounts().Lister()}
	t.Loop = loop.New("serviceaccount-token", parts, t.sync)
	t.On(core.Secrets().Informer(), loop.Changed(func(s *v1.Secret) {
		if s.Type == v1.SecretTypeServiceAccountToken {
			t.Enqueue(s)
		}
	}))
	t.On(core.ServiceAccounts().Informer(), loop.Handlers(t.account, nil, t.account))
	return t, nil
}

// account looks again at the Secrets of an account that appeared or went.
func (c *Controller) account(a *v1.ServiceAccount) {
	all, err := c.secrets.Secrets(a.Namespace).List(labels.Everything())
	if err != nil {
		return
	}
	for _, s := range all {
		if s.Type == v1.SecretTypeServiceAccountToken && s.Annotations[v1.ServiceAccountNameKey] == a.Name {
			c.Enqueue(s)
		}
	}
}

func (c *Controller) sync(ctx context.Context, key string) error {
	namespace, name := loop.Split(key)
	secret, err := c.secrets.Secrets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	owner := secret.Annotations[v1.ServiceAccountNameKey]
	if secret.Type != v1.SecretTypeServiceAccountToken || owner == "" {
		return nil
	}
	account, err := c.accounts.ServiceAccounts(namespace).Get(owner)
	if apierrors.IsNotFound(err) {
		account, err = c.parts.Client.CoreV1().ServiceAccounts(namespace).Get(ctx, owner, metav1.GetOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	uid := secret.Annotations[v1.ServiceAccountUIDKey]
	if err != nil || uid != "" && uid != string(account.UID) {
		err := c.parts.Client.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion},
		})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		return err
	}
	next, changed, err := c.fill(secret, account)
	if err != nil || !changed {
		return err
	}
	_, err = c.parts.Client.CoreV1().Secrets(namespace).Update(ctx, next, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// fill returns the Secret with all that it should hold.
func (c *Controller) fill(secret *v1.Secret, account *v1.ServiceAccount) (*v1.Secret, bool, error) {
	next, changed := secret.DeepCopy(), false
	if next.Annotations[v1.ServiceAccountUIDKey] == "" {
		next.Annotations[v1.ServiceAccountUIDKey] = string(account.UID)
		changed = true
	}
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	if len(c.ca) > 0 && !bytes.Equal(next.Data[v1.ServiceAccountRootCAKey], c.ca) {
		next.Data[v1.ServiceAccountRootCAKey] = c.ca
		changed = true
	}
	if len(next.Data[v1.ServiceAccountNamespaceKey]) == 0 {
		next.Data[v1.ServiceAccountNamespaceKey] = []byte(account.Namespace)
		changed = true
	}
	if len(next.Data[v1.ServiceAccountTokenKey]) == 0 {
		token, err := c.signer.token(account, secret)
		if err != nil {
			return nil, false, err
		}
		next.Data[v1.ServiceAccountTokenKey] = []byte(token)
		changed = true
	}
	return next, changed, nil
}
