package resources

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// minor is the version of Kubernetes 1 whose deprecations are told.
const minor = 37

// deprecation is the warning of a version whose type says that it is deprecated by
// now; empty for others.
func deprecation(gvk schema.GroupVersionKind, obj runtime.Object) string {
	d, ok := obj.(interface{ APILifecycleDeprecated() (major, minor int) })
	if !ok {
		return ""
	}
	since, at := d.APILifecycleDeprecated()
	if since != 1 || at > minor {
		return ""
	}
	text := fmt.Sprintf("%s %s is deprecated in v%d.%d+", gvk.GroupVersion(), gvk.Kind, since, at)
	if r, ok := obj.(interface{ APILifecycleRemoved() (major, minor int) }); ok {
		if until, at := r.APILifecycleRemoved(); until != 0 || at != 0 {
			text += fmt.Sprintf(", unavailable in v%d.%d+", until, at)
		}
	}
	if r, ok := obj.(interface {
		APILifecycleReplacement() schema.GroupVersionKind
	}); ok {
		if by := r.APILifecycleReplacement(); !by.Empty() {
			text += fmt.Sprintf("; use %s %s", by.GroupVersion(), by.Kind)
		}
	}
	return text
}
