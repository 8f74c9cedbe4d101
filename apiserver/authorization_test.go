package apiserver_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"skiff/apiserver"
	"skiff/apiserver/apiservertest"
)

// authorizationWebhook is a service behind TLS; it gives the file that leads to it.
func authorizationWebhook(t *testing.T, decide func(authorizationv1.SubjectAccessReviewSpec) authorizationv1.SubjectAccessReviewStatus) string {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		in.Status = decide(in.Spec)
		_ = json.NewEncoder(w).Encode(&in) // the server is gone when this fails
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "webhook.conf")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: server.URL, CertificateAuthorityData: ca}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c"}},
		CurrentContext: "c",
	}, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestAuthorizationWebhook: a service allows a user the pods of one node and one
// app alone, by the selectors of the request, and of a review.
//
// Covers: api.authz-webhook
func TestAuthorizationWebhook(t *testing.T) {
	t.Parallel()
	file := authorizationWebhook(t, func(s authorizationv1.SubjectAccessReviewSpec) authorizationv1.SubjectAccessReviewStatus {
		a := s.ResourceAttributes
		switch {
		case a == nil:
			return authorizationv1.SubjectAccessReviewStatus{}
		case a.Verb == "delete":
			return authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: "nothing is deleted here"}
		case a.FieldSelector == nil || a.LabelSelector == nil:
			return authorizationv1.SubjectAccessReviewStatus{Reason: "select a node and an app"}
		}
		f, l := a.FieldSelector.Requirements[0], a.LabelSelector.Requirements[0]
		ok := f.Key == "spec.nodeName" && f.Operator == "In" && f.Values[0] == "n1" && l.Key == "app" && l.Operator == "In" && l.Values[0] == "web"
		return authorizationv1.SubjectAccessReviewStatus{Allowed: ok}
	})
	config := filepath.Join(t.TempDir(), "authz.yaml")
	if err := os.WriteFile(config, []byte(`
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: hook
  webhook:
    timeout: 10s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: `+file+`}
    matchConditions:
    - expression: has(request.resourceAttributes)
    - expression: "!('system:masters' in request.groups)"
- {type: RBAC, name: rbac}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := apiservertest.Start(t, func(c *apiserver.Config) { c.AuthorizationConfigFile = config })
	for name, tc := range map[string]struct {
		method, path string
		code         int
		body         string
	}{
		"selected":       {"GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&labelSelector=app%3Dweb", 200, ""},
		"another app":    {"GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&labelSelector=app%3Ddb", 403, "cannot list resource"},
		"one app":        {"GET", "/api/v1/pods?labelSelector=app%3Dweb", 403, "select a node and an app"},
		"all":            {"GET", "/api/v1/pods", 403, "select a node and an app"},
		"denied":         {"DELETE", "/api/v1/namespaces/default/pods/p", 403, "nothing is deleted here"},
		"no resource":    {"GET", "/version", 200, ""},
		"not the hook's": {"GET", "/metrics", 403, "cannot get path"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.CallAs(t, s.Plain, tc.method, tc.path, "")
			if a.Code != tc.code || !strings.Contains(string(a.Body), tc.body) {
				t.Errorf("%d %s, want %d with %q", a.Code, a.Body, tc.code, tc.body)
			}
		})
	}
	for name, tc := range map[string]struct {
		field *authorizationv1.FieldSelectorAttributes
		label *authorizationv1.LabelSelectorAttributes
		want  bool
	}{
		"none": {nil, nil, false},
		"text": {&authorizationv1.FieldSelectorAttributes{RawSelector: "spec.nodeName=n1"}, &authorizationv1.LabelSelectorAttributes{RawSelector: "app=web"}, true},
		"lists": {
			&authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{{Key: "spec.nodeName", Operator: "In", Values: []string{"n1"}}}},
			&authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "In", Values: []string{"web"}}}}, true,
		},
		"another label": {
			&authorizationv1.FieldSelectorAttributes{RawSelector: "spec.nodeName=n1"},
			&authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Exists"}}}, false,
		},
	} {
		t.Run("review "+name, func(t *testing.T) {
			got, err := s.Client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "u", ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Version: "v1", Resource: "pods", FieldSelector: tc.field, LabelSelector: tc.label},
			}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Status.Allowed != tc.want {
				t.Errorf("%+v, want allowed %v", got.Status, tc.want)
			}
		})
	}
	t.Run("a selector in two forms", func(t *testing.T) {
		_, err := s.Client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "u", ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Resource: "pods", LabelSelector: &authorizationv1.LabelSelectorAttributes{
				RawSelector: "a=b", Requirements: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Exists"}},
			}},
		}}, metav1.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "may not specified at the same time as requirements") {
			t.Errorf("error %v", err)
		}
	})
}
