package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works
func TestAPIDefinitionLife(t *testing.T) {
	s := parallel(t)
	d := s.define(s.definition("life", "Boat", "v1"))
	c := s.crds().ApiextensionsV1().CustomResourceDefinitions()
	s.must(c.Delete(s.ctx, d.Name, metav1.DeleteOptions{}))
	s.eventually(30*time.Second, "the definition is gone", func() error {
		if _, err := c.Get(s.ctx, d.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("get: %v, want not found", err)
		}
		if _, err := s.customs(d, "v1").List(s.ctx, metav1.ListOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("list: %v, want not found", err)
		}
		return nil
	})
}

// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works
func TestAPIDefinitionList(t *testing.T) {
	s := parallel(t)
	c := s.crds().ApiextensionsV1().CustomResourceDefinitions()
	label := metav1.ListOptions{LabelSelector: "test=" + s.name}
	for i := range 10 {
		d := s.definition("list", fmt.Sprint("Boat", i), "v1")
		d.Labels = map[string]string{"test": s.name}
		s.define(d)
	}
	other := s.define(s.definition("list", "Other", "v1"))
	list, err := c.List(s.ctx, label)
	s.must(err)
	equal(s, "the number listed", 10, len(list.Items))
	s.must(c.DeleteCollection(s.ctx, metav1.DeleteOptions{}, label))
	s.eventually(30*time.Second, "the labelled are gone", func() error {
		list, err := c.List(s.ctx, label)
		if err == nil && len(list.Items) > 0 {
			err = errLeft(len(list.Items))
		}
		return err
	})
	_, err = c.Get(s.ctx, other.Name, metav1.GetOptions{})
	s.must(err)
}

// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works
func TestAPIDefinitionStatus(t *testing.T) {
	s := parallel(t)
	d := s.define(s.definition("status", "Boat", "v1"))
	c := s.crds().ApiextensionsV1().CustomResourceDefinitions()
	u, err := c.Get(s.ctx, d.Name, metav1.GetOptions{})
	s.must(err)
	s.eventually(30*time.Second, "an update of the status", func() error {
		if u, err = c.Get(s.ctx, d.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		u.Status.Conditions = append(u.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{Type: "StatusUpdate", Status: "True", Reason: "E2E", Message: "updated"})
		u, err = c.UpdateStatus(s.ctx, u, metav1.UpdateOptions{})
		return err
	})
	has := func(kind string) {
		t.Helper()
		got, err := c.Get(s.ctx, d.Name, metav1.GetOptions{})
		s.must(err)
		for _, cond := range got.Status.Conditions {
			if string(cond.Type) == kind && cond.Message == "updated" {
				return
			}
		}
		t.Errorf("the conditions are %+v, want %s", got.Status.Conditions, kind)
	}
	has("StatusUpdate")
	b, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": append(u.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{
		Type: "StatusPatched", Status: "True", Reason: "E2E", Message: "updated"})}})
	s.must(err)
	_, err = c.Patch(s.ctx, d.Name, types.MergePatchType, b, metav1.PatchOptions{}, "status")
	s.must(err)
	has("StatusPatched")
	read, err := s.dynamic.Resource(apiextensionsv1.SchemeGroupVersion.WithResource("customresourcedefinitions")).Get(s.ctx, d.Name, metav1.GetOptions{}, "status")
	s.must(err)
	if text := fmt.Sprint(at(read, "status", "conditions")); !strings.Contains(text, "StatusUpdate") || !strings.Contains(text, "StatusPatched") {
		t.Errorf("the status read by itself has the conditions %s", text)
	}
}

// Conformance: [sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works
func TestAPIDefinitionDefaults(t *testing.T) {
	s := parallel(t)
	d := s.definition("default", "Boat", "v1")
	d.Spec.Versions[0].Schema = schemaOf(s, `{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string"}}}`)
	d = s.define(d)
	c, boats := s.crds().ApiextensionsV1().CustomResourceDefinitions(), s.customs(d, "v1")
	create := func(name string) *unstructured.Unstructured {
		t.Helper()
		u, err := boats.Create(s.ctx, custom(d, "v1", name, nil), metav1.CreateOptions{})
		s.must(err)
		return u
	}
	first := create("first")
	equal(s, "a", nil, at(first, "a"))
	_, err := c.Patch(s.ctx, d.Name, types.JSONPatchType, []byte(`[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/a/default","value":"A"},
		{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/b/default","value":"B"}]`), metav1.PatchOptions{})
	s.must(err)
	s.eventually(30*time.Second, "a default when reading", func() error {
		u, err := boats.Get(s.ctx, "first", metav1.GetOptions{})
		if err == nil && (at(u, "a") != "A" || at(u, "b") != "B") {
			err = fmt.Errorf("a is %v, b %v", at(u, "a"), at(u, "b"))
		}
		return err
	})
	second := create("second")
	equal(s, "a of the second", any("A"), at(second, "a"))
	equal(s, "b of the second", any("B"), at(second, "b"))
	_, err = c.Patch(s.ctx, d.Name, types.JSONPatchType, []byte(`[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/a/default"},
		{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema/properties/b/default","value":"C"}]`), metav1.PatchOptions{})
	s.must(err)
	s.eventually(30*time.Second, "another default when reading", func() error {
		u, err := boats.Get(s.ctx, "first", metav1.GetOptions{})
		if err == nil && (at(u, "a") != nil || at(u, "b") != "C") {
			err = fmt.Errorf("a is %v, b %v", at(u, "a"), at(u, "b"))
		}
		return err
	})
	u, err := boats.Get(s.ctx, "second", metav1.GetOptions{})
	s.must(err)
	equal(s, "the old default that was stored", "A B", fmt.Sprint(at(u, "a"), " ", at(u, "b")))
}

// Conformance: [sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects
func TestAPICustomWatch(t *testing.T) {
	s := parallel(t)
	d := s.definition("watch", "Boat", "v1")
	d.Spec.Scope = apiextensionsv1.ClusterScoped
	d = s.define(d)
	boats := s.customs(d, "v1")
	w := s.watching(boats.Watch(s.ctx, metav1.ListOptions{}))
	for _, name := range []string{"one", "two"} {
		_, err := boats.Create(s.ctx, custom(d, "v1", name, nil), metav1.CreateOptions{})
		s.must(err)
		w.next(watch.Added, name, isNamed(name))
	}
	for _, name := range []string{"one", "two"} {
		_, err := boats.Patch(s.ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
		s.must(err)
		w.next(watch.Modified, name, isNamed(name))
		s.must(boats.Delete(s.ctx, name, metav1.DeleteOptions{}))
		w.next(watch.Deleted, name, isNamed(name))
	}
}

// converted is a conversion webhook between v1, with hostPort, and v2, with
// host and port.
func (s *space) converted(d *apiextensionsv1.CustomResourceDefinition) {
	s.t.Helper()
	b := s.serve("convert", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review apiextensionsv1.ConversionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, fmt.Sprintf("no review: %v", err), http.StatusBadRequest)
			return
		}
		answer := &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
		for _, raw := range review.Request.Objects {
			u := &unstructured.Unstructured{}
			err := json.Unmarshal(raw.Raw, &u.Object)
			if err == nil {
				splitHostPort(u, review.Request.DesiredAPIVersion)
				raw.Raw, err = json.Marshal(u.Object)
			}
			if err != nil {
				answer.Result = metav1.Status{Status: metav1.StatusFailure, Message: err.Error()}
				break
			}
			answer.ConvertedObjects = append(answer.ConvertedObjects, raw)
		}
		review.Request, review.Response = nil, answer
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review) // the server may have given up
	}))
	d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{
		Strategy: apiextensionsv1.WebhookConverter,
		Webhook: &apiextensionsv1.WebhookConversion{
			ConversionReviewVersions: []string{"v1", "v1beta1"},
			ClientConfig: &apiextensionsv1.WebhookClientConfig{CABundle: b.ca, Service: &apiextensionsv1.ServiceReference{
				Namespace: s.name, Name: b.service, Path: ptr.To("/convert"), Port: ptr.To[int32](8443),
			}},
		},
	}
}

// splitHostPort converts an object.
func splitHostPort(u *unstructured.Unstructured, to string) {
	if hostPort, ok := u.Object["hostPort"].(string); ok && strings.HasSuffix(to, "/v2") {
		host, port, _ := strings.Cut(hostPort, ":")
		delete(u.Object, "hostPort")
		u.Object["host"], u.Object["port"] = host, port
	} else if host, ok := u.Object["host"].(string); ok && strings.HasSuffix(to, "/v1") {
		u.Object["hostPort"] = fmt.Sprint(host, ":", u.Object["port"])
		delete(u.Object, "host")
		delete(u.Object, "port")
	}
	u.SetAPIVersion(to)
}

// Conformance: [sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2
// Conformance: [sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs
func TestAPICustomConversion(t *testing.T) {
	s := parallel(t)
	d := s.definition("convert", "Boat", "v1", "v2")
	s.converted(d)
	d = s.define(d)
	v1, v2 := s.customs(d, "v1"), s.customs(d, "v2")
	_, err := v1.Create(s.ctx, custom(d, "v1", "one", map[string]any{"hostPort": "localhost:8080"}), metav1.CreateOptions{})
	s.must(err)
	got, err := v2.Get(s.ctx, "one", metav1.GetOptions{})
	s.must(err)
	equal(s, "the object in v2", "localhost 8080 <nil>", fmt.Sprint(at(got, "host"), " ", at(got, "port"), " ", at(got, "hostPort")))
	equal(s, "its version", d.Spec.Group+"/v2", got.GetAPIVersion())

	_, err = s.crds().ApiextensionsV1().CustomResourceDefinitions().Patch(s.ctx, d.Name, types.JSONPatchType, []byte(
		`[{"op":"replace","path":"/spec/versions/0/storage","value":false},{"op":"replace","path":"/spec/versions/1/storage","value":true}]`), metav1.PatchOptions{})
	s.must(err)
	_, err = v1.Create(s.ctx, custom(d, "v1", "two", map[string]any{"hostPort": "localhost:8081"}), metav1.CreateOptions{})
	s.must(err)
	for version, c := range map[string]struct {
		list func() (*unstructured.UnstructuredList, error)
		want [2]string
	}{
		"v2": {func() (*unstructured.UnstructuredList, error) { return v2.List(s.ctx, metav1.ListOptions{}) }, [2]string{"localhost 8080 <nil>", "localhost 8081 <nil>"}},
		"v1": {func() (*unstructured.UnstructuredList, error) { return v1.List(s.ctx, metav1.ListOptions{}) }, [2]string{"<nil> <nil> localhost:8080", "<nil> <nil> localhost:8081"}},
	} {
		list, err := c.list()
		s.must(err)
		equal(s, "the number listed in "+version, 2, len(list.Items))
		equal(s, "the version of the list", d.Spec.Group+"/"+version, list.GetAPIVersion())
		for i, want := range c.want {
			u := &list.Items[i]
			equal(s, "what "+u.GetName()+" is in "+version, want, fmt.Sprint(at(u, "host"), " ", at(u, "port"), " ", at(u, "hostPort")))
			equal(s, "its version", d.Spec.Group+"/"+version, u.GetAPIVersion())
		}
	}
}

// Conformance: [sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector
func TestAPICustomFieldSelectors(t *testing.T) {
	s := parallel(t)
	d := s.definition("select", "Boat", "v1", "v2")
	d.Spec.Versions[0].Schema = schemaOf(s, `{"type":"object","properties":{"hostPort":{"type":"string"}}}`)
	d.Spec.Versions[0].SelectableFields = []apiextensionsv1.SelectableField{{JSONPath: ".hostPort"}}
	d.Spec.Versions[1].Schema = schemaOf(s, `{"type":"object","properties":{"host":{"type":"string"},"port":{"type":"string"}}}`)
	d.Spec.Versions[1].SelectableFields = []apiextensionsv1.SelectableField{{JSONPath: ".host"}, {JSONPath: ".port"}}
	s.converted(d)
	d = s.define(d)
	v1, v2 := s.customs(d, "v1"), s.customs(d, "v2")
	byV1, byV2 := metav1.ListOptions{FieldSelector: "hostPort=localhost:80"}, metav1.ListOptions{FieldSelector: "host=localhost,port=80"}
	w1, w2 := s.watching(v1.Watch(s.ctx, byV1)), s.watching(v2.Watch(s.ctx, byV2))

	ctx, cancel := context.WithCancel(s.ctx)
	t.Cleanup(cancel)
	informers := map[string]cache.SharedIndexInformer{}
	for version, selected := range map[string]metav1.ListOptions{"v1": byV1, "v2": byV2} {
		factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(s.dynamic, 0, s.name, func(o *metav1.ListOptions) { o.FieldSelector = selected.FieldSelector })
		informers[version] = factory.ForResource(gvrOf(d, version)).Informer()
		factory.Start(ctx.Done())
		t.Cleanup(func() {
			cancel()
			factory.Shutdown()
		})
		if !cache.WaitForCacheSync(ctx.Done(), informers[version].HasSynced) {
			t.Fatalf("the informer of %s has not synced", version)
		}
	}

	for name, hostPort := range map[string]string{"a": "localhost:80", "b": "localhost:81", "c": "elsewhere:80"} {
		_, err := v1.Create(s.ctx, custom(d, "v1", name, map[string]any{"hostPort": hostPort}), metav1.CreateOptions{})
		s.must(err)
	}
	only := func(want string) {
		t.Helper()
		for version, list := range map[string]func() (*unstructured.UnstructuredList, error){
			"v1": func() (*unstructured.UnstructuredList, error) { return v1.List(s.ctx, byV1) },
			"v2": func() (*unstructured.UnstructuredList, error) { return v2.List(s.ctx, byV2) },
		} {
			got, err := list()
			s.must(err)
			names := ""
			for _, u := range got.Items {
				names += u.GetName()
			}
			equal(s, "what is listed in "+version, want, names)
		}
		for version, informer := range informers {
			s.eventually(10*time.Second, "the informer of "+version+" knows "+want, func() error {
				names := ""
				for _, key := range slices.Sorted(slices.Values(informer.GetStore().ListKeys())) {
					names += key[len(key)-1:]
				}
				if names != want {
					return fmt.Errorf("it knows %q", names)
				}
				return nil
			})
		}
	}
	only("a")
	w1.next(watch.Added, "a", isNamed("a"))
	w2.next(watch.Added, "a", isNamed("a"))
	_, err := v1.Patch(s.ctx, "b", types.MergePatchType, []byte(`{"hostPort":"localhost:80"}`), metav1.PatchOptions{})
	s.must(err)
	only("ab")
	w1.next(watch.Added, "b", isNamed("b"))
	w2.next(watch.Added, "b", isNamed("b"))
	_, err = v2.Patch(s.ctx, "a", types.MergePatchType, []byte(`{"port":"99"}`), metav1.PatchOptions{})
	s.must(err)
	only("b")
	w1.next(watch.Deleted, "a", isNamed("a"))
	w2.next(watch.Deleted, "a", isNamed("a"))
	s.must(v1.Delete(s.ctx, "b", metav1.DeleteOptions{}))
	only("")
	w1.next(watch.Deleted, "b", isNamed("b"))
	w2.next(watch.Deleted, "b", isNamed("b"))
	if _, err := v1.List(s.ctx, metav1.ListOptions{FieldSelector: "host=localhost"}); !apierrors.IsBadRequest(err) {
		t.Errorf("a selector of a field that v1 does not select by: %v, want a bad request", err)
	}
}
