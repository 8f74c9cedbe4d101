package handlers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"

	"skiff/apiserver/admission"
	"skiff/apiserver/handlers"
	"skiff/apiserver/request"
	"skiff/apiserver/resources"
	"skiff/apiserver/resources/apps"
	"skiff/apiserver/resources/coordination"
	"skiff/apiserver/resources/core"
	"skiff/apiserver/resources/events"
	"skiff/apiserver/store"
	"skiff/kine/kinetest"
	"skiff/kine/sqlite"
)

// server is the generic path on a real store, behind a real HTTP server.
type server struct {
	t     testing.TB
	url   string
	api   *handlers.API
	kine  *sqlite.Store
	feed  *store.Feed
	chain admission.Chain
}

// widgets are custom resources without a schema.
func widgets() resources.Resource {
	return resources.Resource{
		Group: "example.com", Kind: "Widget", ListKind: "WidgetList", Plural: "widgets", Singular: "widget", Namespaced: true,
		Verbs: resources.AllVerbs, Path: "example.com/widgets", Hub: "v1",
		Versions: []resources.Version{{Name: "v1", New: resources.Empty[unstructured.Unstructured], NewList: resources.Empty[unstructured.UnstructuredList]}},
		Strategy: resources.Strategy{Generation: true},
	}
}

func newServer(t testing.TB, plugins ...admission.Plugin) *server {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	k, err := sqlite.New(sqlite.Config{Path: filepath.Join(t.TempDir(), "state.db"), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, k)
	s := &server{t: t, kine: k, feed: store.NewFeed(k, quiet), chain: admission.NewChain(plugins...)}
	fed := make(chan error, 1)
	go func() { fed <- s.feed.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-fed; err != nil {
			t.Errorf("feed: %v", err)
		}
	})
	s.api, err = handlers.New(handlers.Config{
		Admission: func() admission.Chain { return s.chain }, Log: quiet,
		Authorizer: authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
			if a.GetUser().GetName() == "admin" {
				return authorizer.DecisionAllow, "", nil
			}
			return authorizer.DecisionNoOpinion, "nobody said yes", nil
		}),
		TypeConverter: func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(scheme.Scheme) },
	})
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(core.Resources(), apps.Resources(), coordination.Resources(), events.Resources(), []resources.Resource{widgets()})
	stores := map[string]*store.Store{}
	for i := range all {
		r := &all[i]
		st := stores[r.Path]
		if r.Virtual == "" && st == nil {
			if st, err = store.New(store.Config{Kine: k, Feed: s.feed, Resource: r}); err != nil {
				t.Fatal(err)
			}
			stores[r.Path] = st
		}
		if err := s.api.Install(r, st); err != nil {
			t.Fatal(err)
		}
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := request.WithWarnings(request.WithInfo(r.Context(), request.Parse(r)), w.Header())
		s.api.ServeHTTP(w, r.WithContext(ctx))
	}))
	t.Cleanup(web.Close)
	s.url = web.URL
	return s
}

// answer is a response, read to its end.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// call sends a request. headers are pairs.
func (s *server) call(method, path, body string, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("User-Agent", "tester/1")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := io.Copy(&b, resp.Body); err != nil {
		s.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b.Bytes()}
}

// must fails unless the code is as expected.
func (s *server) must(code int, method, path, body string, headers ...string) answer {
	s.t.Helper()
	a := s.call(method, path, body, headers...)
	if a.code != code {
		s.t.Fatalf("%s %s: code %d, want %d: %s", method, path, a.code, code, a.body)
	}
	return a
}

// doc is a JSON answer.
func (a answer) doc(t testing.TB) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(a.body, &u.Object); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return u
}

func (a answer) status(t testing.TB) metav1.Status {
	t.Helper()
	var st metav1.Status
	if err := json.Unmarshal(a.body, &st); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return st
}

const (
	maps    = "/api/v1/namespaces/ns/configmaps"
	pods    = "/api/v1/namespaces/ns/pods"
	deploys = "/apis/apps/v1/namespaces/ns/deployments"
)

func (s *server) store(group, plural string) *store.Store {
	s.t.Helper()
	t, ok := s.api.Hub(schema.GroupResource{Group: group, Resource: plural}, "", "")
	if !ok {
		s.t.Fatalf("%s is not installed", plural)
	}
	return t.Store
}

const podBody = `{"metadata":{"name":"p","labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`

const deployBody = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`
