package apiserver_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/apiservertest"
)

// TestForms compares what every format says of the same objects.
func TestForms(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	ctx := t.Context()
	ns := namespace(t, s.Client, "forms")
	for _, name := range []string{"a", "b"} {
		d := deployment(name)
		d.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "E", Value: "<&>\u2028"}}
		if _, err := s.Client.AppsV1().Deployments(ns).Create(ctx, d, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	decode := map[string]func([]byte) (any, error){
		"application/json": func(b []byte) (v any, err error) { err = json.Unmarshal(b, &v); return v, err },
		"application/yaml": func(b []byte) (v any, err error) { err = yaml.Unmarshal(b, &v); return v, err },
		"application/cbor": func(b []byte) (any, error) {
			var v any
			if err := direct.Unmarshal(b, &v); err != nil {
				return nil, err
			}
			j, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			var out any
			return out, json.Unmarshal(j, &out)
		},
		"application/vnd.kubernetes.protobuf": func(b []byte) (any, error) {
			obj, gvk, err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Decode(b, nil, nil)
			if err != nil {
				return nil, err
			}
			obj.GetObjectKind().SetGroupVersionKind(*gvk)
			j, err := json.Marshal(obj)
			if err != nil {
				return nil, err
			}
			var out any
			if err := json.Unmarshal(j, &out); err != nil {
				return nil, err
			}
			if m, ok := out.(map[string]any); ok {
				if items, ok := m["items"].([]any); ok {
					for _, it := range items {
						delete(it.(map[string]any), "kind")
						delete(it.(map[string]any), "apiVersion")
					}
				}
			}
			return out, nil
		},
	}
	for _, path := range []string{"/apis/apps/v1/namespaces/forms/deployments/a", "/apis/apps/v1/namespaces/forms/deployments", "/apis/apps/v1/namespaces/forms/deployments?limit=1",
		"/apis/apps/v1/namespaces/forms/deployments/a/scale", "/apis/apps/v1/namespaces/forms/deployments/none", "/api/v1/namespaces/forms"} {
		want, err := decode["application/json"](s.Call(t, "GET", path, "", "Accept", "application/json").Body)
		if err != nil {
			t.Fatal(err)
		}
		for media, read := range decode {
			a := s.Call(t, "GET", path, "", "Accept", media)
			if got := a.Header.Get("Content-Type"); got != media {
				t.Errorf("%s as %s: Content-Type %s", path, media, got)
			}
			got, err := read(a.Body)
			if media == "application/cbor" && err == nil {
				var v any
				if err = direct.Unmarshal(a.Body, &v); err == nil {
					var j []byte
					if j, err = json.Marshal(v); err == nil {
						err = json.Unmarshal(j, &got)
					}
				}
			}
			if err != nil {
				t.Errorf("%s as %s: %v", path, media, err)
				continue
			}
			// A list's version goes on with every write of the server.
			for _, doc := range []any{want, got} {
				if m, ok := doc.(map[string]any); ok && m["items"] != nil {
					delete(m, "metadata")
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s as %s (-json +it):\n%s", path, media, d)
			}
		}
	}
	t.Run("cbor in", func(t *testing.T) {
		b, err := direct.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "cbor"}, "data": map[string]any{"k": "v"}, "binaryData": map[string]any{"b": []byte("x")}})
		if err != nil {
			t.Fatal(err)
		}
		if a := s.Call(t, "POST", "/api/v1/namespaces/forms/configmaps", string(b), "Content-Type", "application/cbor", "Accept", "application/json"); a.Code != 201 || !contains(string(a.Body), `"k":"v"`) {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
	t.Run("metadata client", func(t *testing.T) {
		c := metadata.NewForConfigOrDie(s.Admin).Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(ns)
		l, err := c.List(ctx, metav1.ListOptions{})
		if err != nil || len(l.Items) != 2 || l.Items[0].UID == "" {
			t.Fatalf("%+v, %v", l, err)
		}
		w, err := c.Watch(ctx, metav1.ListOptions{ResourceVersion: l.ResourceVersion})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		if _, err := c.Patch(ctx, "a", "application/merge-patch+json", []byte(`{"metadata":{"labels":{"x":"y"}}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		e := next(t, w)
		if p, ok := e.Object.(*metav1.PartialObjectMetadata); !ok || p.Labels["x"] != "y" || told(e) != "MODIFIED a" {
			t.Errorf("%+v", e)
		}
		if err := c.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("watch of tables", func(t *testing.T) {
		a := s.Call(t, "GET", "/apis/apps/v1/namespaces/forms/deployments?watch=1&timeoutSeconds=1", "", "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
		var e struct {
			Type   string
			Object metav1.Table
		}
		if err := json.NewDecoder(bytes.NewReader(a.Body)).Decode(&e); err != nil || e.Type != "ADDED" || len(e.Object.Rows) != 1 || len(e.Object.ColumnDefinitions) == 0 {
			t.Errorf("%v %s", err, a.Body)
		}
	})
}
