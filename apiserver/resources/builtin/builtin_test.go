package builtin_test

import (
	"encoding/json"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apidiscovery "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/builtin"
)

// shown is what discovery tells about one resource of one version.
type shown struct {
	Kind, Singular string
	Namespaced     bool
	Verbs, Short   []string
	Categories     []string
	Subresources   map[string]sub
}

type sub struct {
	Kind  string
	Verbs []string
}

func TestMatchesDiscovery(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/spec/discovery/aggregated_v2.json")
	if len(files) == 0 {
		t.Skip("the recorded discovery is not here")
	}
	want := map[string]shown{}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var list apidiscovery.APIGroupDiscoveryList
		if err := json.Unmarshal(raw, &list); err != nil {
			t.Fatal(err)
		}
		for _, g := range list.Items {
			for _, v := range g.Versions {
				for _, r := range v.Resources {
					s := shown{Kind: r.ResponseKind.Kind, Singular: r.SingularResource, Namespaced: r.Scope == apidiscovery.ScopeNamespace,
						Verbs: sorted(r.Verbs), Short: sorted(r.ShortNames), Categories: sorted(r.Categories), Subresources: map[string]sub{}}
					for _, x := range r.Subresources {
						s.Subresources[x.Subresource] = sub{x.ResponseKind.Kind, sorted(x.Verbs)}
					}
					want[g.Name+"/"+v.Version+"/"+r.Resource] = s
				}
			}
		}
	}
	if len(want) == 0 {
		t.Fatal("the recorded discovery lists nothing")
	}
	addLegacy(t, want, "../../../../shared/spec/discovery/api__v1.json")
	// The documents are of an earlier build than v1.37.2, which serves these too.
	want["certificates.k8s.io/v1/podcertificaterequests"] = want["certificates.k8s.io/v1beta1/podcertificaterequests"]
	want["storage.k8s.io/v1/csinodes"].Subresources["status"] = sub{"CSINode", []string{"get", "patch", "update"}}
	got := map[string]shown{}
	for _, r := range builtin.Resources() {
		for _, v := range r.Versions {
			s := shown{Kind: r.Kind, Singular: r.Singular, Namespaced: r.Namespaced, Verbs: sorted(r.Verbs), Short: sorted(r.ShortNames),
				Categories: sorted(r.Categories), Subresources: map[string]sub{}}
			for name, x := range r.Subresources {
				kind := x.Kind
				if kind == "" {
					kind = r.Kind
				}
				s.Subresources[name] = sub{kind, sorted(x.Verbs)}
			}
			got[r.Group+"/"+v.Name+"/"+r.Plural] = s
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the declared resources differ from the recorded discovery (-want +got):\n%s", diff)
	}
}

// addLegacy adds the core group, which is recorded as a plain list.
func addLegacy(t *testing.T, want map[string]shown, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	for _, r := range list.APIResources {
		if name, part, ok := strings.Cut(r.Name, "/"); ok {
			want["/v1/"+name].Subresources[part] = sub{r.Kind, sorted(r.Verbs)}
			continue
		}
		want["/v1/"+r.Name] = shown{Kind: r.Kind, Singular: r.SingularName, Namespaced: r.Namespaced, Verbs: sorted(r.Verbs),
			Short: sorted(r.ShortNames), Categories: sorted(r.Categories), Subresources: map[string]sub{}}
	}
}

func sorted(list []string) []string {
	out := append([]string{}, list...)
	sort.Strings(out)
	return out
}

// TestRoundTrip converts filled objects of every version that is not the hub
// to the hub and back, and wants them unchanged.
func TestRoundTrip(t *testing.T) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codecs := serializer.NewCodecFactory(scheme)
	for _, r := range builtin.Resources() {
		for _, v := range r.Versions {
			if v.ToHub == nil || r.Group == "autoscaling" {
				continue
			}
			t.Run(r.Group+"/"+v.Name+"/"+r.Plural, func(t *testing.T) {
				fill := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(7), codecs)
				for range 20 {
					obj := v.New()
					fill.Fill(obj)
					obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
					hub, err := v.ToHub(obj)
					if err != nil {
						t.Fatal(err)
					}
					back, err := v.FromHub(hub)
					if err != nil {
						t.Fatal(err)
					}
					back.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
					again, err := v.ToHub(back)
					if err != nil {
						t.Fatal(err)
					}
					if !equality.Semantic.DeepEqual(hub, again) {
						t.Fatalf("the hub's object changed on its way there and back: %s", cmp.Diff(hub, again))
					}
					// A device without its "basic" form has no other form in the hub.
					if r.Plural == "resourceslices" && v.Name == "v1beta1" {
						continue
					}
					if !equality.Semantic.DeepEqual(obj, back) {
						t.Fatalf("changed on its way to the hub and back: %s", cmp.Diff(obj, back))
					}
				}
			})
		}
	}
}

// TestWhole: every stored resource has what storage and discovery need.
func TestWhole(t *testing.T) {
	paths := map[string]string{}
	for _, r := range builtin.Resources() {
		name := r.GroupResource().String()
		if r.Virtual != resources.ConnectNone {
			continue
		}
		if r.Path == "" {
			t.Errorf("%s has no storage path", name)
		}
		if other, taken := paths[r.Path]; taken && r.SharesStoreWith.Empty() {
			t.Errorf("%s and %s share the storage path %q", name, other, r.Path)
		}
		paths[r.Path] = name
		if len(r.Columns) != 0 && r.Row == nil {
			t.Errorf("%s has columns and no rows", name)
		}
		for _, v := range r.Versions {
			obj := v.New()
			if v.Default != nil {
				v.Default(obj)
			}
			if v.ToHub != nil {
				var err error
				if obj, err = v.ToHub(obj); err != nil {
					t.Errorf("%s %s: %v", name, v.Name, err)
					continue
				}
			}
			if r.Row != nil {
				if cells := r.Row(obj); len(cells) != len(r.Columns) {
					t.Errorf("%s: %d columns and %d cells", name, len(r.Columns), len(cells))
				}
			}
		}
	}
}
