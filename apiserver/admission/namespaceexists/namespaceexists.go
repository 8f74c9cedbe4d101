// Package namespaceexists refuses writes in namespaces that do not exist.
package namespaceexists

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
)

// Name of the plugin.
const Name = "NamespaceExists"

// Plugin looks for the namespace of requests.
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

// Handles all writes.
func (*Plugin) Handles(op admission.Operation) bool { return op != admission.Connect }

// Validate decides.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Namespace == "" || a.GroupResource().String() == "namespaces" {
		return nil
	}
	_, err := lookup.Get(ctx, a.Namespace, p.namespaces.Get, p.client.CoreV1().Namespaces().Get)
	if err != nil && !apierrors.IsNotFound(err) {
		return apierrors.NewInternalError(err)
	}
	return err
}
