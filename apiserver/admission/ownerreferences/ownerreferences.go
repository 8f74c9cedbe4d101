// Package ownerreferences lets only those change an object's owners who may
// delete it, and only those block an owner's deletion who may change its finalizers.
package ownerreferences

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "OwnerReferencesPermissionEnforcement"

// Plugin asks the authorizer.
type Plugin struct {
	client kubernetes.Interface
	authz  authorizer.Authorizer
}

// New makes the plugin.
func New(client kubernetes.Interface, authz authorizer.Authorizer) *Plugin {
	return &Plugin{client: client, authz: authz}
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations and updates.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate asks about what changes. The status of pods is the kubelets'.
func (p *Plugin) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Resource.Group == "" && a.Resource.Resource == "pods" && a.Subresource == "status" {
		return nil
	}
	owners, before := ownersOf(a.Object), ownersOf(a.OldObject)
	if equality.Semantic.DeepEqual(owners, before) {
		return nil
	}
	// Who makes an object may say whose it is.
	if a.Operation != admission.Create {
		ok, why := p.may(ctx, authorizer.AttributesRecord{
			User: a.User, Verb: "delete", Namespace: a.Namespace, Name: a.Name, ResourceRequest: true,
			APIGroup: a.Resource.Group, APIVersion: a.Resource.Version, Resource: a.Resource.Resource,
		})
		if !ok {
			return admission.Forbidden(a, fmt.Errorf("cannot set an ownerRef on a resource you can't delete: %s", why))
		}
	}
	for _, ref := range newlyBlocking(owners, before) {
		resources, err := p.finalizersOf(ref, a)
		if err != nil {
			return admission.Forbidden(a, fmt.Errorf("cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion %v Kind %v: %w", ref.APIVersion, ref.Kind, err))
		}
		for _, r := range resources {
			if ok, why := p.may(ctx, r); !ok {
				return admission.Forbidden(a, fmt.Errorf("cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: %s", why))
			}
		}
	}
	return nil
}

func ownersOf(obj runtime.Object) []metav1.OwnerReference {
	if obj == nil {
		return nil
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil
	}
	return m.GetOwnerReferences()
}

// newlyBlocking are the references that did not block their owner's deletion before.
func newlyBlocking(owners, before []metav1.OwnerReference) []metav1.OwnerReference {
	var out []metav1.OwnerReference
	for _, ref := range owners {
		did := slices.ContainsFunc(before, func(b metav1.OwnerReference) bool { return b.UID == ref.UID && ptr.Deref(b.BlockOwnerDeletion, false) })
		if ptr.Deref(ref.BlockOwnerDeletion, false) && !did {
			out = append(out, ref)
		}
	}
	return out
}

// may asks the authorizer, and tells why not.
func (p *Plugin) may(ctx context.Context, r authorizer.AttributesRecord) (bool, string) {
	decision, reason, err := p.authz.Authorize(ctx, r)
	return decision == authorizer.DecisionAllow, fmt.Sprintf("%v, %v", reason, err)
}

// finalizersOf are the questions whether the finalizers of a reference's owner may
// be changed, one for each resource of its kind.
func (p *Plugin) finalizersOf(ref metav1.OwnerReference, a *admission.Attributes) ([]authorizer.AttributesRecord, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, err
	}
	list, err := p.client.Discovery().ServerResourcesForGroupVersion(ref.APIVersion)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	if list == nil {
		list = &metav1.APIResourceList{}
	}
	var out []authorizer.AttributesRecord
	for _, r := range list.APIResources {
		if r.Kind != ref.Kind || strings.Contains(r.Name, "/") {
			continue
		}
		record := authorizer.AttributesRecord{User: a.User, Verb: "update", ResourceRequest: true, Name: ref.Name,
			APIGroup: gv.Group, APIVersion: gv.Version, Resource: r.Name, Subresource: "finalizers"}
		if r.Namespaced {
			record.Namespace = a.Namespace
		}
		out = append(out, record)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no matches for kind %q in version %q", ref.Kind, ref.APIVersion)
	}
	return out, nil
}
