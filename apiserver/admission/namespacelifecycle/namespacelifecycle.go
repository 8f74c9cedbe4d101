// Package namespacelifecycle refuses objects in namespaces that do not exist or
// are going, and keeps the system namespaces.
package namespacelifecycle

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"skiff/apiserver/admission"
	"skiff/apiserver/admission/lookup"
)

// Name of the plugin.
const Name = "NamespaceLifecycle"

// Plugin looks at the namespace of requests.
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

// Handles creations and deletions.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Delete
}

// Admit decides.
func (p *Plugin) Admit(ctx context.Context, a *admission.Attributes) error {
	namespaces := a.Resource.Group == "" && a.Resource.Resource == "namespaces"
	if a.Operation == admission.Delete {
		if namespaces && (a.Name == metav1.NamespaceDefault || a.Name == metav1.NamespaceSystem || a.Name == metav1.NamespacePublic) {
			return apierrors.NewForbidden(a.GroupResource(), a.Name, errors.New("this namespace may not be deleted"))
		}
		return nil
	}
	if namespaces || a.Namespace == "" || (a.Resource.Group == "authorization.k8s.io" && a.Resource.Resource == "localsubjectaccessreviews") {
		return nil
	}
	ns, err := lookup.Get(ctx, a.Namespace, p.namespaces.Get, p.client.CoreV1().Namespaces().Get)
	if apierrors.IsNotFound(err) {
		return err
	}
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if ns.Status.Phase != v1.NamespaceTerminating && ns.DeletionTimestamp == nil {
		return nil
	}
	refused := apierrors.NewForbidden(a.GroupResource(), a.ObjectName(), fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.Namespace))
	refused.ErrStatus.Details.Causes = append(refused.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: v1.NamespaceTerminatingCause, Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace), Field: "metadata.namespace"})
	return refused
}
