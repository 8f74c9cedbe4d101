package loop

import (
	"k8s.io/client-go/tools/cache"
)

// Handlers turns typed functions into an informer's handler; nil ones are
// skipped, and a delete that was missed still arrives with the last known state.
func Handlers[T any](add func(T), update func(old, new T), del func(T)) cache.ResourceEventHandler {
	var h cache.ResourceEventHandlerFuncs
	if add != nil {
		h.AddFunc = func(obj any) {
			if o, ok := obj.(T); ok {
				add(o)
			}
		}
	}
	if update != nil {
		h.UpdateFunc = func(a, b any) {
			o, ok := a.(T)
			n, ok2 := b.(T)
			if ok && ok2 {
				update(o, n)
			}
		}
	}
	if del != nil {
		h.DeleteFunc = func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if o, ok := obj.(T); ok {
				del(o)
			}
		}
	}
	return h
}

// Each calls f for the object of every event, the new one of an update.
func Each[T any](f func(T)) cache.ResourceEventHandler {
	return Handlers(f, func(_, o T) { f(o) }, f)
}

// Changed calls f for added and updated objects.
func Changed[T any](f func(T)) cache.ResourceEventHandler {
	return Handlers(f, func(_, o T) { f(o) }, nil)
}

// KeyOf is namespace/name of an object or of a tombstone.
func KeyOf(obj any) (string, bool) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	return key, err == nil
}

// Split cuts a key into namespace and name; keys come from KeyOf only.
func Split(key string) (namespace, name string) {
	namespace, name, _ = cache.SplitMetaNamespaceKey(key)
	return namespace, name
}

// Index adds an indexer once to a shared informer.
func Index(informer cache.SharedIndexInformer, name string, f cache.IndexFunc) error {
	if _, ok := informer.GetIndexer().GetIndexers()[name]; ok {
		return nil
	}
	return informer.AddIndexers(cache.Indexers{name: f})
}

// ByIndex lists the objects of an index under a value. The slice is the
// caller's; the objects are shared and must not be changed.
func ByIndex[T any](informer cache.SharedIndexInformer, index, value string) ([]T, error) {
	objs, err := informer.GetIndexer().ByIndex(index, value)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(objs))
	for _, o := range objs {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out, nil
}
