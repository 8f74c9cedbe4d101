// Package serviceaccount gives every namespace its default ServiceAccount.
package serviceaccount

import (
	"context"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/controllers/loop"
)

// Name is the account that every namespace has.
const Name = "default"

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// Controller makes missing default accounts.
type Controller struct {
	*loop.Loop
	parts      loop.Parts
	namespaces corelisters.NamespaceLister
	accounts   corelisters.ServiceAccountLister
}

// New checks the configuration and makes the controller.
func New(c Config) (*Controller, error) {
	parts, err := c.Complete("serviceaccount")
	if err != nil {
		return nil, err
	}
	core := parts.Informers.Core().V1()
	s := &Controller{parts: parts, namespaces: core.Namespaces().Lister(), accounts: core.ServiceAccounts().Lister()}
	s.Loop = loop.New("serviceaccount", parts, s.sync)
	s.On(core.Namespaces().Informer(), loop.Changed(func(n *v1.Namespace) { s.Add(n.Name) }))
	s.On(core.ServiceAccounts().Informer(), loop.Handlers(nil, nil, func(a *v1.ServiceAccount) { s.Add(a.Namespace) }))
	return s, nil
}

func (c *Controller) sync(ctx context.Context, name string) error {
	ns, err := c.namespaces.Get(name)
	if apierrors.IsNotFound(err) || err == nil && ns.Status.Phase != v1.NamespaceActive {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := c.accounts.ServiceAccounts(name).Get(Name); !apierrors.IsNotFound(err) {
		return err
	}
	account := &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: name}}
	_, err = c.parts.Client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}
