package loop

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// Names of the indexes that several controllers share.
const (
	// ByOwner finds objects by the UID of their controller; those without one
	// are under OrphanKey of their namespace.
	ByOwner = "controllerUID"
	// ByNode finds pods by spec.nodeName.
	ByNode = "nodeName"
)

// OrphanKey is where ByOwner keeps a namespace's objects without a controller.
func OrphanKey(namespace string) string { return "orphan/" + namespace }

// IndexOwner gives informers the ByOwner index.
func IndexOwner(informers ...cache.SharedIndexInformer) error {
	for _, informer := range informers {
		if err := Index(informer, ByOwner, owner); err != nil {
			return err
		}
	}
	return nil
}

func owner(obj any) ([]string, error) {
	o, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		return []string{string(ref.UID)}, nil
	}
	return []string{OrphanKey(o.GetNamespace())}, nil
}

// IndexNode gives the pod informer the ByNode index.
func IndexNode(informer cache.SharedIndexInformer) error {
	return Index(informer, ByNode, func(obj any) ([]string, error) {
		if pod, ok := obj.(*v1.Pod); ok && pod.Spec.NodeName != "" {
			return []string{pod.Spec.NodeName}, nil
		}
		return nil, nil
	})
}

// OwnedOrOrphan lists the objects of a controller and its namespace's orphans:
// all that may be claimed.
func OwnedOrOrphan[T any](informer cache.SharedIndexInformer, namespace string, uid types.UID) ([]T, error) {
	owned, err := ByIndex[T](informer, ByOwner, string(uid))
	if err != nil {
		return nil, err
	}
	orphans, err := ByIndex[T](informer, ByOwner, OrphanKey(namespace))
	if err != nil {
		return nil, err
	}
	return append(owned, orphans...), nil
}
