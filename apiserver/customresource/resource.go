package customresource

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	apimachineryversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/util/jsonpath"

	"skiff/apiserver/resources"
	"skiff/apiserver/webhookclient"
)

// verbs of custom resources, in the order that discovery has.
var verbs = []string{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}

// kind is what one definition serves, for as long as its spec and its accepted
// names stay.
type kind struct {
	crd      *v1.CustomResourceDefinition
	hub      *version
	versions map[string]*version
	convert  converter
}

func newKind(crd *v1.CustomResourceDefinition, dial webhookclient.Dial) (*kind, error) {
	k := &kind{crd: crd, versions: map[string]*version{}, convert: sameShape{}}
	for i := range crd.Spec.Versions {
		v := newVersion(&crd.Spec.Versions[i], crd.Spec.PreserveUnknownFields)
		k.versions[v.Name] = v
		if v.Storage {
			k.hub = v
		}
	}
	if k.hub == nil {
		return nil, fmt.Errorf("custom resource definition %s: no version is stored", crd.Name)
	}
	if c := crd.Spec.Conversion; c != nil && c.Strategy == v1.WebhookConverter {
		w, err := newWebhook(crd, dial)
		if err != nil {
			return nil, fmt.Errorf("custom resource definition %s: conversion: %w", crd.Name, err)
		}
		k.convert = w
	}
	return k, nil
}

// served are the names of the versions that answer requests, preferred first.
func (k *kind) served() []string {
	var out []string
	for _, v := range k.crd.Spec.Versions {
		if v.Served {
			out = append(out, v.Name)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return -apimachineryversion.CompareKubeAwareVersionStrings(a, b) })
	return out
}

func (k *kind) namespaced() bool { return k.crd.Spec.Scope == v1.NamespaceScoped }

// resource is the kind as the API serves it. terminating: its definition is being
// deleted, and nothing new is made of it.
func (k *kind) resource(terminating bool) *resources.Resource {
	names := k.crd.Status.AcceptedNames
	r := &resources.Resource{
		Group: k.crd.Spec.Group, Kind: names.Kind, ListKind: names.ListKind, Plural: names.Plural, Singular: names.Singular,
		ShortNames: names.ShortNames, Categories: names.Categories, Namespaced: k.namespaced(), Verbs: verbs,
		Path: k.crd.Spec.Group + "/" + names.Plural, Hub: k.hub.Name,
		Strategy: k.strategy(), SelectableFields: k.selectable(), Subresources: map[string]resources.Subresource{},
		TypeConverter: sync.OnceValue(func() managedfields.TypeConverter { return k.typeConverter() }),
	}
	if terminating {
		r.Refused = map[string]string{"create": "create not allowed while custom resource definition is terminating"}
		r.Verbs = slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return v == "create" })
	}
	for i := range k.crd.Spec.Versions {
		v := k.versions[k.crd.Spec.Versions[i].Name]
		if !v.Served && !v.Storage && !slices.Contains(k.crd.Status.StoredVersions, v.Name) {
			continue
		}
		r.Versions = append(r.Versions, k.version(v))
	}
	slices.SortFunc(r.Versions, func(a, b resources.Version) int {
		return -apimachineryversion.CompareKubeAwareVersionStrings(a.Name, b.Name)
	})
	for _, v := range k.versions {
		if v.hasStatus() {
			s := k.statusStrategy()
			r.Subresources["status"] = resources.Subresource{Verbs: resources.StatusVerbs, Strategy: &s}
		}
		if v.hasScale() {
			s := resources.Scale()
			s.Scale = k.scalePaths()
			r.Subresources["scale"] = s
		}
	}
	return r
}

func (k *kind) version(v *version) resources.Version {
	gvk := k.gvk(v.Name)
	listGVK := gvk
	listGVK.Kind = k.crd.Status.AcceptedNames.ListKind
	out := resources.Version{
		Name: v.Name, Unserved: !v.Served,
		New: func() runtime.Object {
			u := &unstructured.Unstructured{}
			u.SetGroupVersionKind(gvk)
			return u
		},
		NewList: func() runtime.Object {
			l := &unstructured.UnstructuredList{}
			l.SetGroupVersionKind(listGVK)
			return l
		},
		Default: func(obj runtime.Object) {
			if u, ok := obj.(*unstructured.Unstructured); ok {
				v.fill(u)
			}
		},
		Coerce: func(obj runtime.Object, stored, track bool) ([]string, error) {
			u, ok := obj.(*unstructured.Unstructured)
			if !ok {
				return nil, fmt.Errorf("%T is no custom resource", obj)
			}
			return k.coerce(v, u, stored, track)
		},
	}
	out.Columns, out.Row = columns(v.AdditionalPrinterColumns)
	out.SelectableFields, out.SelectConverted = v.selectable(), k.reshapes(v)
	if v != k.hub {
		out.ToHub = func(in runtime.Object) (runtime.Object, error) { return k.converted(in, k.hub) }
		out.FromHub = func(in runtime.Object) (runtime.Object, error) { return k.converted(in, v) }
		if hook, ok := k.convert.(*webhook); ok {
			out.FromHubAll = func(in []runtime.Object) ([]runtime.Object, error) { return k.convertedAll(hook, in, v) }
		}
	}
	if v.Deprecated {
		out.Deprecated = k.deprecation(v)
	}
	return out
}

// deprecation is the warning of a deprecated version.
func (k *kind) deprecation(v *version) string {
	if v.DeprecationWarning != nil {
		return *v.DeprecationWarning
	}
	text := fmt.Sprintf("%s/%s %s is deprecated", k.crd.Spec.Group, v.Name, k.crd.Spec.Names.Kind)
	for _, name := range k.served() {
		if !k.versions[name].Deprecated && apimachineryversion.CompareKubeAwareVersionStrings(v.Name, name) < 0 {
			return text + fmt.Sprintf("; use %s/%s %s", k.crd.Spec.Group, name, k.crd.Spec.Names.Kind)
		}
	}
	return text
}

// converted is an object in another version, in the shape of that version's schema.
// in is not changed.
func (k *kind) converted(in runtime.Object, to *version) (runtime.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("%T is no custom resource", in)
	}
	from := cmp.Or(u.GroupVersionKind().Version, k.hub.Name)
	if from == to.Name && u.GetKind() != "" {
		return in, nil
	}
	u = k.own(u, from)
	if from != to.Name {
		var err error
		if u, err = k.convert.convert(u, schema.GroupVersion{Group: k.crd.Spec.Group, Version: to.Name}); err != nil {
			return nil, err
		}
	}
	if _, err := k.coerce(to, u, false, false); err != nil {
		return nil, err
	}
	return u, nil
}

// own is a copy of an object of a version, with its type.
func (k *kind) own(u *unstructured.Unstructured, version string) *unstructured.Unstructured {
	u = u.DeepCopy()
	if u.Object == nil {
		u.Object = map[string]any{}
	}
	u.SetGroupVersionKind(k.gvk(version))
	return u
}

// convertedAll is converted for many hub objects, with one question to the webhook.
func (k *kind) convertedAll(hook *webhook, in []runtime.Object, to *version) ([]runtime.Object, error) {
	own := make([]*unstructured.Unstructured, len(in))
	for i, obj := range in {
		u, ok := obj.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("%T is no custom resource", obj)
		}
		own[i] = k.own(u, k.hub.Name)
	}
	converted, err := hook.convertAll(own, schema.GroupVersion{Group: k.crd.Spec.Group, Version: to.Name})
	if err != nil {
		return nil, err
	}
	out := make([]runtime.Object, len(in))
	for i, u := range converted {
		if _, err := k.coerce(to, u, false, false); err != nil {
			return nil, err
		}
		out[i] = u
	}
	return out, nil
}

// scalePaths are where the hub keeps what a scale shows; the paths of a version
// that has some when the hub has none.
func (k *kind) scalePaths() *resources.ScalePaths {
	from := k.hub
	if !from.hasScale() {
		for _, name := range k.served() {
			if v := k.versions[name]; v.hasScale() {
				from = v
				break
			}
		}
	}
	s := from.Subresources.Scale
	out := &resources.ScalePaths{Replicas: splitPath(s.SpecReplicasPath), StatusReplicas: splitPath(s.StatusReplicasPath)}
	if s.LabelSelectorPath != nil && *s.LabelSelectorPath != "" {
		out.Selector = splitPath(*s.LabelSelectorPath)
	}
	return out
}

func splitPath(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }

// selectable are the selectable fields that are read from the hub: those of all
// versions that have its shape.
func (k *kind) selectable() map[string]func(runtime.Object) string {
	out := map[string]func(runtime.Object) string{}
	for _, v := range k.versions {
		if !k.reshapes(v) {
			maps.Copy(out, v.selectable())
		}
	}
	return out
}

// reshapes tells whether objects look different in a version than in the hub.
func (k *kind) reshapes(v *version) bool {
	_, same := k.convert.(sameShape)
	return v != k.hub && !same
}

// selectable are the version's selectable fields.
func (v *version) selectable() map[string]func(runtime.Object) string {
	out := map[string]func(runtime.Object) string{}
	for _, f := range v.SelectableFields {
		label := strings.TrimPrefix(f.JSONPath, ".")
		path := jsonpath.New("selectableField").AllowMissingKeys(true)
		if err := path.Parse("{" + f.JSONPath + "}"); err != nil {
			continue // validation lets no such path through
		}
		var mu sync.Mutex // a parsed path keeps state while it looks
		out[label] = func(obj runtime.Object) string {
			u, ok := obj.(*unstructured.Unstructured)
			if !ok {
				return ""
			}
			mu.Lock()
			defer mu.Unlock()
			found, err := path.FindResults(u.Object)
			if err != nil || len(found) == 0 || len(found[0]) == 0 {
				return ""
			}
			if value := found[0][0].Interface(); value != nil {
				return fmt.Sprint(value)
			}
			return ""
		}
	}
	return out
}
