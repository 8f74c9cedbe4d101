package handlers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/request"
	"skiff/apiserver/resources"
	"skiff/apiserver/store"
	"skiff/client/ownerwatch"
)

// owners opens the watch as a user.
func (s *server) owners(name string) *http.Response {
	s.t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := request.WithInfo(request.WithUser(r.Context(), &user.DefaultInfo{Name: name}), request.Parse(r))
		s.api.ServeOwners(w, r.WithContext(ctx))
	}))
	s.t.Cleanup(web.Close)
	req, err := http.NewRequestWithContext(s.t.Context(), "GET", web.URL+ownerwatch.Path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// told reads frames up to the next one of the last kind, and tells those of the
// resources of interest as "put widgets a".
func told(t *testing.T, d *json.Decoder, names map[int]string, last ownerwatch.Kind, of ...string) []string {
	t.Helper()
	var out []string
	for {
		var f ownerwatch.Frame
		if err := d.Decode(&f); err != nil {
			t.Fatal(err)
		}
		if f.Resource != nil {
			names[f.Number] = f.Resource.Version + "/" + f.Resource.Resource
		}
		text := string(f.Kind)
		if f.Number != 0 {
			text += " " + names[f.Number]
		}
		if o := f.Object; o != nil {
			text += " " + o.Name
			for _, r := range o.Owners {
				text += " of " + r.Name
			}
		}
		for _, name := range of {
			if strings.HasSuffix(names[f.Number], "/"+name) {
				out = append(out, text)
			}
		}
		if f.Kind == last {
			return out
		}
	}
}

func widgetBody(name, owner string) string {
	refs := ""
	if owner != "" {
		refs = fmt.Sprintf(`,"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":%q,"uid":"u"}]`, owner)
	}
	return fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":%q%s}}`, name, refs)
}

const widgetPath = "/apis/example.com/v1/namespaces/ns/widgets"

// The garbage collector sees whatever there is and whatever becomes of it,
// through definitions that come, change and go, on one connection.
func TestOwnersOfEverything(t *testing.T) {
	s := newServer(t)
	s.must(201, "POST", maps, `{"metadata":{"name":"m"}}`)
	s.must(201, "POST", widgetPath, widgetBody("a", "m"))
	d := json.NewDecoder(s.owners("admin").Body)
	names := map[int]string{}
	expect := func(step string, last ownerwatch.Kind, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, told(t, d, names, last, "configmaps", "widgets", "gadgets", "events", "bindings")); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", step, diff)
		}
	}
	expect("at first", ownerwatch.Synced,
		"list v1/configmaps", "put v1/configmaps m", "listed v1/configmaps", "list v1/widgets", "put v1/widgets a of m", "listed v1/widgets")

	s.must(200, "DELETE", maps+"/m", "")
	expect("a delete", ownerwatch.Delete, "delete v1/configmaps m")
	s.must(201, "POST", widgetPath, widgetBody("b", ""))
	expect("a create", ownerwatch.Put, "put v1/widgets b")

	gadgets := widgets()
	gadgets.Kind, gadgets.Plural, gadgets.Path = "Gadget", "gadgets", "example.com/gadgets"
	install := func(r resources.Resource) *store.Store {
		t.Helper()
		st, err := store.New(store.Config{Kine: s.kine, Feed: s.feed, Resource: &r})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.api.Install(&r, st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	before := install(gadgets)
	expect("a new definition", ownerwatch.Synced, "list v1/gadgets", "listed v1/gadgets")
	install(gadgets)
	before.Close()
	expect("a changed definition", ownerwatch.Synced, "list v1/gadgets", "listed v1/gadgets")
	s.must(201, "POST", strings.Replace(widgetPath, "widgets", "gadgets", 1), strings.Replace(widgetBody("g", ""), "Widget", "Gadget", 1))
	expect("what the changed definition keeps", ownerwatch.Put, "put v1/gadgets g")
	s.api.Remove(schema.GroupResource{Group: "example.com", Resource: "gadgets"})
	expect("a removed definition", ownerwatch.Gone, "gone v1/gadgets")
}

// A store that has to load anew is told of anew.
func TestOwnersAfterTheStoreReloads(t *testing.T) {
	s := newServer(t)
	d := json.NewDecoder(s.owners("admin").Body)
	names := map[int]string{}
	told(t, d, names, ownerwatch.Synced)
	s.must(201, "POST", widgetPath, widgetBody("a", ""))
	told(t, d, names, ownerwatch.Put)
	s.store("example.com", "widgets").Close()
	r := widgets()
	st, err := store.New(store.Config{Kine: s.kine, Feed: s.feed, Resource: &r})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.api.Install(&r, st); err != nil {
		t.Fatal(err)
	}
	want := []string{"list v1/widgets", "put v1/widgets a", "listed v1/widgets"}
	if diff := cmp.Diff(want, told(t, d, names, ownerwatch.Synced, "widgets")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOwnersNeedRights(t *testing.T) {
	resp := newServer(t).owners("someone")
	var st metav1.Status
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil || resp.StatusCode != http.StatusForbidden || st.Reason != metav1.StatusReasonForbidden {
		t.Errorf("got %d, %+v, %v, want Forbidden", resp.StatusCode, st, err)
	}
}
