package adoption

import (
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"skiff/controllers/loop"
)

// Events turns the events of owned objects into keys of their controllers.
type Events[T metav1.Object] struct {
	// Owner finds the controller behind a reference; false when it is not of
	// this kind, gone, or another incarnation.
	Owner func(namespace string, ref *metav1.OwnerReference) (key string, ok bool)
	// Matching lists the controllers that might adopt an orphan.
	Matching func(obj T) []string
	// Created and Deleted tell of appearances and departures of owned objects;
	// both may be nil.
	Created func(key string)
	Deleted func(key string, obj T)
	// Updated tells of an owned object's change; may be nil.
	Updated func(key string, old, obj T)
	// Enqueue asks for a sync.
	Enqueue func(key string)
}

// Handler is what the informer of the owned objects calls.
func (e Events[T]) Handler() cache.ResourceEventHandler {
	return loop.Handlers(e.add, e.update, e.remove)
}

func (e Events[T]) owner(obj T) (string, bool) {
	ref := metav1.GetControllerOfNoCopy(obj)
	if ref == nil {
		return "", false
	}
	return e.Owner(obj.GetNamespace(), ref)
}

func (e Events[T]) add(obj T) {
	if obj.GetDeletionTimestamp() != nil {
		e.remove(obj)
		return
	}
	if metav1.GetControllerOfNoCopy(obj) == nil {
		e.orphan(obj)
		return
	}
	if key, ok := e.owner(obj); ok {
		if e.Created != nil {
			e.Created(key)
		}
		e.Enqueue(key)
	}
}

func (e Events[T]) update(old, obj T) {
	if old.GetResourceVersion() == obj.GetResourceVersion() {
		return
	}
	relabelled := !maps.Equal(old.GetLabels(), obj.GetLabels())
	if obj.GetDeletionTimestamp() != nil {
		e.remove(obj)
		if relabelled {
			e.remove(old)
		}
		return
	}
	before, now := metav1.GetControllerOfNoCopy(old), metav1.GetControllerOfNoCopy(obj)
	changed := !equality.Semantic.DeepEqual(before, now)
	if changed && before != nil {
		if key, ok := e.Owner(old.GetNamespace(), before); ok {
			e.Enqueue(key)
		}
	}
	if now == nil {
		if relabelled || changed {
			e.orphan(obj)
		}
		return
	}
	if key, ok := e.Owner(obj.GetNamespace(), now); ok {
		e.Enqueue(key)
		if e.Updated != nil {
			e.Updated(key, old, obj)
		}
	}
}

func (e Events[T]) remove(obj T) {
	key, ok := e.owner(obj)
	if !ok {
		return
	}
	if e.Deleted != nil {
		e.Deleted(key, obj)
	}
	e.Enqueue(key)
}

func (e Events[T]) orphan(obj T) {
	if e.Matching == nil {
		return
	}
	for _, key := range e.Matching(obj) {
		e.Enqueue(key)
	}
}

// OwnerIn makes an Events.Owner from a lister's get function.
func OwnerIn[O metav1.Object](kind string, get func(namespace, name string) (O, error)) func(string, *metav1.OwnerReference) (string, bool) {
	return func(namespace string, ref *metav1.OwnerReference) (string, bool) {
		if ref.Kind != kind {
			return "", false
		}
		o, err := get(namespace, ref.Name)
		if err != nil || o.GetUID() != ref.UID {
			return "", false
		}
		return types.NamespacedName{Namespace: namespace, Name: ref.Name}.String(), true
	}
}
