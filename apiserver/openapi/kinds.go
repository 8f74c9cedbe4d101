package openapi

import (
	"cmp"
	"reflect"
	"slices"
	"sync"

	admissionv1 "k8s.io/api/admission/v1"
	admissionv1beta1 "k8s.io/api/admission/v1beta1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiregistrationv1beta1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1beta1"
)

// typeKinds are the names that each Go type has in the API.
var typeKinds = sync.OnceValue(func() map[reflect.Type][]schema.GroupVersionKind {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientscheme.AddToScheme, admissionv1.AddToScheme, admissionv1beta1.AddToScheme, imagepolicyv1alpha1.AddToScheme,
		apiextensionsv1.AddToScheme, apiextensionsv1beta1.AddToScheme, apiregistrationv1.AddToScheme, apiregistrationv1beta1.AddToScheme,
	} {
		if err := add(s); err != nil {
			// Two libraries that name one kind differently cannot be linked together.
			panic(err)
		}
	}
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	out := map[reflect.Type][]schema.GroupVersionKind{}
	for gvk, t := range s.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		out[t] = append(out[t], gvk)
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b schema.GroupVersionKind) int {
			return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind))
		})
	}
	return out
})

func allKinds(t reflect.Type) []schema.GroupVersionKind { return typeKinds()[t] }

// kindsIn are the names of a type that the document of one group version
// shows: what every group has (options, events of watches) only for it and core.
func kindsIn(gv schema.GroupVersion) func(reflect.Type) []schema.GroupVersionKind {
	return func(t reflect.Type) []schema.GroupVersionKind {
		all := typeKinds()[t]
		if len(all) < 2 {
			return all
		}
		var out []schema.GroupVersionKind
		for _, k := range all {
			if k.GroupVersion() == gv || k.Group == "" && k.Version == "v1" {
				out = append(out, k)
			}
		}
		if out == nil {
			return all
		}
		return out
	}
}

func kindObject(gvk schema.GroupVersionKind) object {
	return object{"group": gvk.Group, "kind": gvk.Kind, "version": gvk.Version}
}
