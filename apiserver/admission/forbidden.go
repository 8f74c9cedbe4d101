package admission

import (
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
)

// Forbidden refuses a request for a reason. An API status that is one already stays as it is.
func Forbidden(a *Attributes, reason error) error {
	if apierrors.IsForbidden(reason) {
		return reason
	}
	return apierrors.NewForbidden(a.GroupResource(), a.ObjectName(), reason)
}

// ObjectName is the name as errors show it: on a create with generateName there is none yet.
func (a *Attributes) ObjectName() string {
	if a.Collected {
		return "Unknown"
	}
	if a.Name != "" {
		return a.Name
	}
	if m, err := meta.Accessor(a.Object); err == nil {
		if m.GetName() != "" {
			return m.GetName()
		}
		if m.GetGenerateName() != "" {
			return m.GetGenerateName()
		}
	}
	return "Unknown"
}

// Is tells whether the request is for the resource itself, of the core group when group is empty.
func (a *Attributes) Is(group, resource string) bool {
	return a.Subresource == "" && a.Resource.Group == group && a.Resource.Resource == resource
}
