package apiserver_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
)

// TestIntrospection: the pages are for those who watch over the cluster.
//
// Covers: api.introspection
func TestIntrospection(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, func(c *apiserver.Config) { c.Flags = map[string]string{"bind-address": "0.0.0.0"} })
	monitor := s.As(t, "monitor", "system:monitoring")
	for name, tc := range map[string]struct {
		path    string
		monitor int
		body    string
	}{
		"status":  {"/statusz", 200, "kube-apiserver statusz"},
		"flags":   {"/flagz", 200, "bind-address=0.0.0.0"},
		"config":  {"/configz", 403, `{"authorization":{"kind":"AuthorizationConfiguration","apiVersion":"apiserver.config.k8s.io/v1","authorizers":[{"type":"Node","name":"node"},{"type":"RBAC","name":"rbac"}]}}`},
		"profile": {"/debug/pprof/", 403, "goroutine"},
		"command": {"/debug/pprof/cmdline", 403, "apiserver.test"},
		"metrics": {"/metrics", 200, "apiserver_request_total"},
	} {
		t.Run(name, func(t *testing.T) {
			if a := s.CallAs(t, s.Plain, "GET", tc.path, ""); a.Code != 403 {
				t.Errorf("anyone gets %d %s", a.Code, a.Body)
			}
			if a := s.CallAs(t, monitor, "GET", tc.path, ""); a.Code != tc.monitor {
				t.Errorf("system:monitoring gets %d %s, want %d", a.Code, a.Body, tc.monitor)
			}
			if a := s.Call(t, "GET", tc.path, ""); a.Code != 200 || !strings.Contains(string(a.Body), tc.body) {
				t.Errorf("an administrator gets %d %s, want %s", a.Code, a.Body, tc.body)
			}
		})
	}
	role, err := s.Client.RbacV1().ClusterRoles().Get(t.Context(), "system:monitoring", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/statusz", "/flagz"} {
		found := false
		for _, r := range role.Rules {
			found = found || slices.Contains(r.NonResourceURLs, want) && r.Verbs[0] == "get"
		}
		if !found {
			t.Errorf("system:monitoring lacks %s: %+v", want, []rbacv1.PolicyRule(role.Rules))
		}
	}
}

// Clients ask for the headers of the published documents alone.
func TestHeadersOfOpenAPI(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, nil)
	for _, path := range []string{"/openapi/v2", "/openapi/v3"} {
		if a := s.Call(t, http.MethodHead, path, ""); a.Code != http.StatusOK || len(a.Body) > 0 {
			t.Errorf("%s: %d, %d bytes", path, a.Code, len(a.Body))
		}
	}
}
