package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// later undoes at the end of the test what deleting its namespace does not.
func (s *space) later(what string, undo func(context.Context) error) {
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := undo(ctx); err != nil && !apierrors.IsNotFound(err) {
			s.t.Errorf("%s: %v", what, err)
		}
	})
}

// as is a test of a part of s' subject, with s' namespace.
func (s *space) as(t *testing.T) *space {
	own := *s
	own.t = t
	return &own
}

// equal complains where got is not want.
func equal[T comparable](s *space, what string, want, got T) {
	s.t.Helper()
	if want != got {
		s.t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// parsed is an object from its JSON.
func parsed(s *space, text string) *unstructured.Unstructured {
	s.t.Helper()
	u := &unstructured.Unstructured{}
	s.must(json.Unmarshal([]byte(text), &u.Object))
	return u
}

// at is what an object has at a path, nil for nothing.
func at(u *unstructured.Unstructured, path ...string) any {
	v, _, err := unstructured.NestedFieldNoCopy(u.Object, path...)
	if err != nil {
		return err
	}
	return v
}

// watcher reads a watch in order.
type watcher struct {
	s *space
	w watch.Interface
}

// watching opens a watch until the end of the test.
func (s *space) watching(w watch.Interface, err error) *watcher {
	s.t.Helper()
	s.must(err)
	s.t.Cleanup(w.Stop)
	return &watcher{s, w}
}

// next is the next event's object, and must be of kind and match.
func (w *watcher) next(kind watch.EventType, what string, match func(metav1.Object) bool) metav1.Object {
	w.s.t.Helper()
	return w.await(kind, what, false, match)
}

// until skips events until one is of kind and matches.
func (w *watcher) until(kind watch.EventType, what string, match func(metav1.Object) bool) metav1.Object {
	w.s.t.Helper()
	return w.await(kind, what, true, match)
}

func (w *watcher) await(kind watch.EventType, what string, skip bool, match func(metav1.Object) bool) metav1.Object {
	w.s.t.Helper()
	end := time.After(60 * time.Second)
	for {
		select {
		case e, ok := <-w.w.ResultChan():
			if !ok {
				w.s.t.Fatalf("the watch ended before it said %s of %s", kind, what)
			}
			obj, ok := e.Object.(metav1.Object)
			if ok && e.Type == kind && (match == nil || match(obj)) {
				return obj
			}
			if !skip {
				w.s.t.Fatalf("the watch said %s %+v, want %s of %s", e.Type, e.Object, kind, what)
			}
		case <-end:
			w.s.t.Fatalf("the watch did not say %s of %s", kind, what)
		}
	}
}

// silent checks that a watch has nothing to say for a while.
func (w *watcher) silent(d time.Duration) {
	w.s.t.Helper()
	select {
	case e, ok := <-w.w.ResultChan():
		if ok {
			w.s.t.Fatalf("the watch said %s %+v, want nothing", e.Type, e.Object)
		}
	case <-time.After(d):
	}
}

func isNamed(name string) func(metav1.Object) bool {
	return func(o metav1.Object) bool { return o.GetName() == name }
}

// crds is the client of definitions.
func (s *space) crds() apiextensions.Interface {
	s.t.Helper()
	c, err := apiextensions.NewForConfig(s.config)
	s.must(err)
	return c
}

// definition is a CRD of the group GROUP.NAMESPACE.example.com, whose versions
// are served and keep whatever they are given; the first is stored.
func (s *space) definition(group, kind string, versions ...string) *apiextensionsv1.CustomResourceDefinition {
	lower := strings.ToLower(kind)
	d := &apiextensionsv1.CustomResourceDefinition{Spec: apiextensionsv1.CustomResourceDefinitionSpec{
		Group: group + "." + s.name + ".example.com", Scope: apiextensionsv1.NamespaceScoped,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: lower + "s", Singular: lower, Kind: kind, ListKind: kind + "List"},
	}}
	d.Name = d.Spec.Names.Plural + "." + d.Spec.Group
	for i, v := range versions {
		d.Spec.Versions = append(d.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{
			Name: v, Served: true, Storage: i == 0, Schema: openSchema(),
		})
	}
	return d
}

func openSchema() *apiextensionsv1.CustomResourceValidation {
	yes := true
	return &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
		Type: "object", XPreserveUnknownFields: &yes,
	}}
}

// schemaOf is a version's schema from its JSON.
func schemaOf(s *space, text string) *apiextensionsv1.CustomResourceValidation {
	s.t.Helper()
	v := &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{}}
	s.must(json.Unmarshal([]byte(text), v.OpenAPIV3Schema))
	return v
}

// define makes a definition and waits until its resources are served, as
// clients do: the condition, then discovery.
func (s *space) define(d *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	s.t.Helper()
	c := s.crds().ApiextensionsV1().CustomResourceDefinitions()
	_, err := c.Create(s.ctx, d, metav1.CreateOptions{})
	s.must(err)
	s.later("delete the definition", func(ctx context.Context) error {
		return c.Delete(ctx, d.Name, metav1.DeleteOptions{})
	})
	var out *apiextensionsv1.CustomResourceDefinition
	s.eventually(30*time.Second, d.Name+" is established", func() error {
		if out, err = c.Get(s.ctx, d.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		for _, cond := range out.Status.Conditions {
			if cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%+v", out.Status.Conditions)
	})
	for _, v := range d.Spec.Versions {
		s.eventually(30*time.Second, d.Name+" is discovered", func() error {
			list, err := s.client.Discovery().ServerResourcesForGroupVersion(d.Spec.Group + "/" + v.Name)
			if err != nil {
				return err
			}
			for _, r := range list.APIResources {
				if r.Name == d.Spec.Names.Plural {
					return nil
				}
			}
			return fmt.Errorf("%+v", list.APIResources)
		})
	}
	return out
}

func gvrOf(d *apiextensionsv1.CustomResourceDefinition, version string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: d.Spec.Group, Version: version, Resource: d.Spec.Names.Plural}
}

// customs is the client of a definition's objects in a version, in the test's
// namespace.
func (s *space) customs(d *apiextensionsv1.CustomResourceDefinition, version string) dynamic.ResourceInterface {
	gvr := gvrOf(d, version)
	if d.Spec.Scope == apiextensionsv1.ClusterScoped {
		return s.dynamic.Resource(gvr)
	}
	return s.dynamic.Resource(gvr).Namespace(s.name)
}

// custom is an object of a definition, with content beside its metadata.
func custom(d *apiextensionsv1.CustomResourceDefinition, version, name string, content map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	for k, v := range content {
		u.Object[k] = v
	}
	u.SetAPIVersion(d.Spec.Group + "/" + version)
	u.SetKind(d.Spec.Names.Kind)
	u.SetName(name)
	return u
}
