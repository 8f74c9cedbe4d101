package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
)

// A thousand definitions are all served and told of, and all go away again.
//
// Covers: api.custom-many
func TestManyDefinitions(t *testing.T) {
	if testing.Short() {
		t.Skip("a thousand definitions take a while")
	}
	const many, groups = 1000, 50
	e := startExtended(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	crds := e.crds.ApiextensionsV1().CustomResourceDefinitions()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < many; i = next.Add(1) - 1 {
				crd := definition(t, fmt.Sprintf(`
metadata: {name: things%[1]d.g%[2]d.many.example, labels: {many: "yes"}}
spec:
  group: g%[2]d.many.example
  scope: Namespaced
  names: {plural: things%[1]d, singular: thing%[1]d, kind: Thing%[1]d, listKind: Thing%[1]dList}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}}
`, i, i%groups))
				if _, err := crds.Create(ctx, crd, metav1.CreateOptions{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	count := func(ctx context.Context, ok func(*v1.CustomResourceDefinition) bool) int {
		l, err := crds.List(ctx, metav1.ListOptions{LabelSelector: "many=yes"})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i := range l.Items {
			if ok(&l.Items[i]) {
				n++
			}
		}
		return n
	}
	await := func(what string, ok func(context.Context) bool) {
		t.Helper()
		if err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) { return ok(ctx), nil }); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	await("not all are established", func(ctx context.Context) bool { return count(ctx, established) == many })

	// told are the custom resources in discovery and the groups in OpenAPI. Who is
	// established is in both.
	told := func() (inDiscovery, inOpenAPI int) {
		b, _ := e.raw(t, "/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		var list apidiscovery.APIGroupDiscoveryList
		if err := json.Unmarshal(b, &list); err != nil {
			t.Fatal(err)
		}
		for _, g := range list.Items {
			if strings.HasSuffix(g.Name, ".many.example") {
				for _, v := range g.Versions {
					inDiscovery += len(v.Resources)
				}
			}
		}
		b, _ = e.raw(t, "/openapi/v3", "application/json")
		var index struct{ Paths map[string]any }
		if err := json.Unmarshal(b, &index); err != nil {
			t.Fatal(err)
		}
		for path := range index.Paths {
			if strings.HasSuffix(path, ".many.example/v1") {
				inOpenAPI++
			}
		}
		return inDiscovery, inOpenAPI
	}
	if d, o := told(); d != many || o != groups {
		t.Errorf("discovery has %d resources and OpenAPI %d groups, want %d and %d", d, o, many, groups)
	}
	b, _ := e.raw(t, "/openapi/v3/apis/g7.many.example/v1", "application/json")
	var doc struct {
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal(b, &doc); err != nil || doc.Components.Schemas["example.many.g7.v1.Thing7"] == nil || doc.Components.Schemas["example.many.g7.v1.Thing957"] == nil {
		t.Errorf("the document of a group lacks its kinds: %v", err)
	}
	for _, i := range []int{0, 499, 999} {
		gvr := schema.GroupVersionResource{Group: fmt.Sprintf("g%d.many.example", i%groups), Version: "v1", Resource: fmt.Sprintf("things%d", i)}
		if _, err := e.dyn.Resource(gvr).Namespace("default").List(ctx, metav1.ListOptions{}); err != nil {
			t.Errorf("%s: %v", gvr, err)
		}
	}

	if err := crds.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "many=yes"}); err != nil {
		t.Fatal(err)
	}
	await("some are left", func(ctx context.Context) bool {
		return count(ctx, func(*v1.CustomResourceDefinition) bool { return true }) == 0
	})
	await("they are still told of", func(context.Context) bool {
		d, o := told()
		return d == 0 && o == 0
	})
}
