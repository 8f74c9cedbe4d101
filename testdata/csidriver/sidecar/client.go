package sidecar

import (
	"context"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// client reaches the few kinds that a sidecar deals with. The clientset of all
// kinds would make the program four times as large.
type client struct {
	core, storage rest.Interface
	parameters    runtime.ParameterCodec
}

func newClient(config *rest.Config) (*client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1.AddToScheme, storagev1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	c := &client{parameters: runtime.NewParameterCodec(scheme)}
	for _, each := range []struct {
		group schema.GroupVersion
		path  string
		into  *rest.Interface
	}{{v1.SchemeGroupVersion, "/api", &c.core}, {storagev1.SchemeGroupVersion, "/apis", &c.storage}} {
		config := rest.CopyConfig(config)
		config.GroupVersion, config.APIPath = &each.group, each.path
		config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
		r, err := rest.RESTClientFor(config)
		if err != nil {
			return nil, err
		}
		*each.into = r
	}
	return c, nil
}

// object is what clients deal with.
type object interface {
	runtime.Object
	metav1.Object
}

// kind is one resource, with a list of what there is kept current.
type kind[T object, L runtime.Object] struct {
	api  *client
	rest rest.Interface
	name string
	one  func() T
	many func() L
	list cache.SharedIndexInformer
}

func newKind[T object, L runtime.Object](c *client, r rest.Interface, name string, one func() T, many func() L) *kind[T, L] {
	k := &kind[T, L]{api: c, rest: r, name: name, one: one, many: many}
	all := k.in("")
	k.list = cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return all.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return all.Watch(ctx, o) },
	}, one(), 0, cache.Indexers{})
	return k
}

// in gives the client of a namespace; "" for all, or for kinds without.
func (k *kind[T, L]) in(namespace string) *gentype.ClientWithList[T, L] {
	return gentype.NewClientWithList(k.name, k.rest, k.api.parameters, namespace, k.one, k.many)
}

// get finds one by its key.
func (k *kind[T, L]) get(key string) (out T, ok bool) {
	obj, ok, err := k.list.GetStore().GetByKey(key)
	if err != nil || !ok {
		return out, false
	}
	out, ok = obj.(T)
	return out, ok
}

// all lists what there is.
func (k *kind[T, L]) all() []T {
	var out []T
	for _, obj := range k.list.GetStore().List() {
		if o, ok := obj.(T); ok {
			out = append(out, o)
		}
	}
	return out
}
