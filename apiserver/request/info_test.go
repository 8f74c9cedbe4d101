package request

import (
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, method, url string
		want              Info
	}{
		{"plain path", "GET", "/healthz", Info{Path: "/healthz", Verb: "get"}},
		{"group discovery", "GET", "/apis/apps/v1", Info{Path: "/apis/apps/v1", Verb: "get"}},
		{"core discovery", "GET", "/api/v1", Info{Path: "/api/v1", Verb: "get"}},
		{"namespaced list", "GET", "/api/v1/namespaces/ns/pods?limit=3", Info{IsResource: true, Path: "/api/v1/namespaces/ns/pods", Verb: "list", APIPrefix: "api", APIVersion: "v1", Namespace: "ns", Resource: "pods", Parts: []string{"pods"}}},
		{"watch by query", "GET", "/apis/apps/v1/deployments?watch=1&fieldSelector=metadata.name%3Da", Info{IsResource: true, Path: "/apis/apps/v1/deployments", Verb: "watch", APIPrefix: "apis", APIGroup: "apps", APIVersion: "v1", Resource: "deployments", Name: "a", FieldSelector: "metadata.name=a", Parts: []string{"deployments"}}},
		{"watch=false is a list", "GET", "/api/v1/pods?watch=false", Info{IsResource: true, Path: "/api/v1/pods", Verb: "list", APIPrefix: "api", APIVersion: "v1", Resource: "pods", Parts: []string{"pods"}}},
		{"old watch path", "GET", "/api/v1/watch/namespaces/ns/pods/p", Info{IsResource: true, Path: "/api/v1/watch/namespaces/ns/pods/p", Verb: "watch", APIPrefix: "api", APIVersion: "v1", Namespace: "ns", Resource: "pods", Name: "p", Parts: []string{"pods", "p"}}},
		{"namespace itself", "GET", "/api/v1/namespaces/ns", Info{IsResource: true, Path: "/api/v1/namespaces/ns", Verb: "get", APIPrefix: "api", APIVersion: "v1", Namespace: "ns", Resource: "namespaces", Name: "ns", Parts: []string{"namespaces", "ns"}}},
		{"namespace finalize", "PUT", "/api/v1/namespaces/ns/finalize", Info{IsResource: true, Path: "/api/v1/namespaces/ns/finalize", Verb: "update", APIPrefix: "api", APIVersion: "v1", Namespace: "ns", Resource: "namespaces", Subresource: "finalize", Name: "ns", Parts: []string{"namespaces", "ns", "finalize"}}},
		{"subresource", "POST", "/api/v1/namespaces/ns/pods/p/binding", Info{IsResource: true, Path: "/api/v1/namespaces/ns/pods/p/binding", Verb: "create", APIPrefix: "api", APIVersion: "v1", Namespace: "ns", Resource: "pods", Subresource: "binding", Name: "p", Parts: []string{"pods", "p", "binding"}}},
		{"delete collection", "DELETE", "/api/v1/namespaces/ns/pods?labelSelector=a%3Db", Info{IsResource: true, Path: "/api/v1/namespaces/ns/pods", Verb: "deletecollection", APIPrefix: "api", APIVersion: "v1", Namespace: "ns", Resource: "pods", LabelSelector: "a=b", Parts: []string{"pods"}}},
		{"proxy path", "GET", "/api/v1/namespaces/ns/services/s:80/proxy/a/b", Info{IsResource: true, Path: "/api/v1/namespaces/ns/services/s:80/proxy/a/b", Verb: "get", APIPrefix: "api", APIVersion: "v1", Namespace: "ns", Resource: "services", Subresource: "proxy", Name: "s:80", Parts: []string{"services", "s:80", "proxy", "a", "b"}}},
		{"cluster-scoped object", "PATCH", "/api/v1/nodes/n", Info{IsResource: true, Path: "/api/v1/nodes/n", Verb: "patch", APIPrefix: "api", APIVersion: "v1", Resource: "nodes", Name: "n", Parts: []string{"nodes", "n"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Parse(httptest.NewRequest(tc.method, tc.url, nil))
			if d := cmp.Diff(&tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWarningsAreSentOnceAndBounded(t *testing.T) {
	rec := httptest.NewRecorder()
	ctx := WithWarnings(t.Context(), rec.Header())
	Warn(ctx, "a")
	Warn(ctx, "a")
	Warn(ctx, string(make([]byte, 5000)))
	if got := rec.Header().Values("Warning"); len(got) != 1 || got[0] != `299 - "a"` {
		t.Errorf("Warning headers: %q", got)
	}
}
