// Package namespaceautoprovision makes the namespace of an object that is created
// where there is none.
package namespaceautoprovision

import (
	"context"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "NamespaceAutoProvision"

// Plugin makes namespaces.
type Plugin struct {
	client     kubernetes.Interface
	namespaces corelisters.NamespaceLister
}

// New makes the plugin.
func New(client kubernetes.Interface, namespaces corelisters.NamespaceLister) *Plugin {
	return &Plugin{client: client, namespaces: namespaces}
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations.
func (*Plugin) Handles(op admission.Operation) bool { return op == admission.Create }

// Admit makes the namespace, unless nothing may be changed.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	if a.DryRun || a.Namespace == "" || a.GroupResource().String() == "namespaces" {
		return nil
	}
	_, err := p.namespaces.Get(a.Namespace)
	if apierrors.IsNotFound(err) {
		_, err = p.client.CoreV1().Namespaces().Create(ctx, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.Namespace}}, metav1.CreateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return admission.Forbidden(a, err)
	}
	return nil
}
