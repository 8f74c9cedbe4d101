package webhook

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// service is a real webhook behind TLS. It keeps the last question.
type service struct {
	calls atomic.Int64
	asked atomic.Value
	file  string
}

func serve(t *testing.T, answer http.HandlerFunc) *service {
	t.Helper()
	s := &service{file: filepath.Join(t.TempDir(), "webhook.conf")}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.calls.Add(1)
		var in map[string]any
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.asked.Store(in)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	c := clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: server.URL + "/authorize", CertificateAuthorityData: ca}},
		Contexts:       map[string]*clientcmdapi.Context{"c": {Cluster: "c"}},
		CurrentContext: "c",
	}
	if err := clientcmd.WriteToFile(c, s.file); err != nil {
		t.Fatal(err)
	}
	return s
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}
}

// settings of a webhook that keeps nothing, unless change says otherwise.
func settings(file string, change func(*apiserver.WebhookConfiguration)) *apiserver.WebhookConfiguration {
	c := &apiserver.WebhookConfiguration{
		Timeout: metav1.Duration{Duration: 10 * time.Second}, FailurePolicy: "NoOpinion", SubjectAccessReviewVersion: "v1",
		MatchConditionSubjectAccessReviewVersion: "v1",
		ConnectionInfo:                           apiserver.WebhookConnectionInfo{Type: "KubeConfigFile", KubeConfigFile: &file},
	}
	if change != nil {
		change(c)
	}
	return c
}

func listPods() authorizer.AttributesRecord {
	want, _ := labels.ParseToRequirements("app=web,tier notin (a),x")
	return authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: "jane", UID: "7", Groups: []string{"dev"}, Extra: map[string][]string{"k": {"v"}}},
		Verb: "list", Namespace: "ns", APIVersion: "v1", Resource: "pods", ResourceRequest: true, Path: "/api/v1/namespaces/ns/pods",
		FieldSelectorRequirements: fields.ParseSelectorOrDie("spec.nodeName=n1,status.phase!=Failed").Requirements(),
		LabelSelectorRequirements: want,
	}
}

// Covers: api.authz-webhook
func TestAuthorize(t *testing.T) {
	yes := text(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","status":{"allowed":true,"reason":"fine"}}`)
	denies := func(c *apiserver.WebhookConfiguration) { c.FailurePolicy = "Deny" }
	when := func(expressions ...string) func(*apiserver.WebhookConfiguration) {
		return func(c *apiserver.WebhookConfiguration) {
			for _, e := range expressions {
				c.MatchConditions = append(c.MatchConditions, apiserver.WebhookMatchCondition{Expression: e})
			}
		}
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		change func(*apiserver.WebhookConfiguration)
		want   authorizer.Decision
		reason string
		err    string
		calls  int64
	}{
		"allowed":    {yes, nil, authorizer.DecisionAllow, "fine", "", 1},
		"denied":     {text(`{"status":{"denied":true,"reason":"never"}}`), nil, authorizer.DecisionDeny, "never", "", 1},
		"no opinion": {text(`{"status":{"allowed":false,"reason":"who?"}}`), nil, authorizer.DecisionNoOpinion, "who?", "", 1},
		"both":       {text(`{"status":{"allowed":true,"denied":true}}`), denies, authorizer.DecisionDeny, "", "both allow and deny", 1},
		"v1beta1": {text(`{"apiVersion":"authorization.k8s.io/v1beta1","kind":"SubjectAccessReview","status":{"allowed":true}}`),
			func(c *apiserver.WebhookConfiguration) { c.SubjectAccessReviewVersion = "v1beta1" }, authorizer.DecisionAllow, "", "", 1},
		"another version":     {text(`{"apiVersion":"authorization.k8s.io/v1beta1","kind":"SubjectAccessReview","status":{"allowed":true}}`), nil, authorizer.DecisionNoOpinion, "", "want a SubjectAccessReview", 1},
		"no JSON":             {text(`<html>`), nil, authorizer.DecisionNoOpinion, "", "decode webhook answer", 1},
		"no JSON, strict":     {text(`<html>`), denies, authorizer.DecisionDeny, "", "decode webhook answer", 1},
		"refused":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, denies, authorizer.DecisionDeny, "", "answered 403", 1},
		"redirected":          {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/b", http.StatusTemporaryRedirect) }, denies, authorizer.DecisionDeny, "", "answered 307", 1},
		"matches":             {yes, when(`has(request.resourceAttributes) && request.resourceAttributes.namespace == 'ns'`, `'dev' in request.groups`), authorizer.DecisionAllow, "fine", "", 1},
		"does not match":      {yes, when(`request.user == 'joe'`), authorizer.DecisionNoOpinion, "", "", 0},
		"selectors match":     {yes, when(`request.resourceAttributes.labelSelector.requirements.exists(r, r.key == 'app' && 'web' in r.values)`, `request.resourceAttributes.fieldSelector.requirements[0].key == 'spec.nodeName'`), authorizer.DecisionAllow, "fine", "", 1},
		"fails to match":      {yes, when(`request.nonResourceAttributes.path == '/x'`), authorizer.DecisionNoOpinion, "", "cel evaluation error", 0},
		"a no beats an error": {yes, when(`request.nonResourceAttributes.path == '/x'`, `false`), authorizer.DecisionNoOpinion, "", "", 0},
		"fails to match, strict": {yes, func(c *apiserver.WebhookConfiguration) {
			denies(c)
			when(`request.nonResourceAttributes.path == '/x'`)(c)
		}, authorizer.DecisionDeny, "", "cel evaluation error", 0},
		"too late": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, func(c *apiserver.WebhookConfiguration) {
			denies(c)
			c.Timeout.Duration = 50 * time.Millisecond
		}, authorizer.DecisionDeny, "", "exceeded", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, tc.answer)
			a, err := New("hook", settings(s.file, tc.change), authorizationcel.NewDefaultCompiler(), nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			got, reason, err := a.Authorize(t.Context(), listPods())
			if got != tc.want || reason != tc.reason {
				t.Errorf("%v %q, want %v %q", got, reason, tc.want, tc.reason)
			}
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want one with %q", err, tc.err)
			}
			if n := s.calls.Load(); n != tc.calls {
				t.Errorf("asked %d times, want %d", n, tc.calls)
			}
		})
	}
}

// TestQuestion: what the service is asked, in both versions.
//
// Covers: api.authz-webhook
func TestQuestion(t *testing.T) {
	resource := map[string]any{
		"namespace": "ns", "verb": "list", "version": "v1", "resource": "pods",
		"fieldSelector": map[string]any{"requirements": []any{
			map[string]any{"key": "spec.nodeName", "operator": "In", "values": []any{"n1"}},
			map[string]any{"key": "status.phase", "operator": "NotIn", "values": []any{"Failed"}},
		}},
		"labelSelector": map[string]any{"requirements": []any{
			map[string]any{"key": "app", "operator": "In", "values": []any{"web"}},
			map[string]any{"key": "tier", "operator": "NotIn", "values": []any{"a"}},
			map[string]any{"key": "x", "operator": "Exists"},
		}},
	}
	extra := map[string]any{"k": []any{"v"}}
	for name, tc := range map[string]struct {
		version string
		attrs   authorizer.AttributesRecord
		want    map[string]any
	}{
		"v1":      {"v1", listPods(), map[string]any{"user": "jane", "uid": "7", "groups": []any{"dev"}, "extra": extra, "resourceAttributes": resource}},
		"v1beta1": {"v1beta1", listPods(), map[string]any{"user": "jane", "uid": "7", "group": []any{"dev"}, "extra": extra, "resourceAttributes": resource}},
		"path": {"v1", authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "joe"}, Verb: "get", Path: "/metrics"},
			map[string]any{"user": "joe", "nonResourceAttributes": map[string]any{"path": "/metrics", "verb": "get"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, text(`{}`))
			a, err := New("hook", settings(s.file, func(c *apiserver.WebhookConfiguration) { c.SubjectAccessReviewVersion = tc.version }), nil, nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := a.Authorize(t.Context(), tc.attrs); err != nil {
				t.Fatal(err)
			}
			got := s.asked.Load().(map[string]any)
			if got["apiVersion"] != "authorization.k8s.io/"+tc.version || got["kind"] != "SubjectAccessReview" {
				t.Errorf("it is a %v of %v", got["kind"], got["apiVersion"])
			}
			if d := cmp.Diff(tc.want, got["spec"]); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestAnswersAreKept: each for its time, by all that the question says; failures
// are not.
//
// Covers: api.authz-webhook
func TestAnswersAreKept(t *testing.T) {
	ask := func(a *Authorizer, change func(*authorizer.AttributesRecord)) {
		attrs := listPods()
		if change != nil {
			change(&attrs)
		}
		_, _, _ = a.Authorize(context.Background(), attrs)
	}
	long := metav1.Duration{Duration: time.Hour}
	for name, tc := range map[string]struct {
		answer string
		change func(*apiserver.WebhookConfiguration)
		calls  int64
	}{
		"yes": {`{"status":{"allowed":true}}`, func(c *apiserver.WebhookConfiguration) { c.CacheAuthorizedRequests, c.AuthorizedTTL = true, long }, 2},
		"yes, not kept": {`{"status":{"allowed":true}}`, func(c *apiserver.WebhookConfiguration) {
			c.CacheUnauthorizedRequests, c.UnauthorizedTTL, c.AuthorizedTTL = true, long, long
		}, 3},
		"no":               {`{"status":{"denied":true}}`, func(c *apiserver.WebhookConfiguration) { c.CacheUnauthorizedRequests, c.UnauthorizedTTL = true, long }, 2},
		"no, not kept":     {`{"status":{}}`, func(c *apiserver.WebhookConfiguration) { c.CacheAuthorizedRequests, c.AuthorizedTTL = true, long }, 3},
		"kept for no time": {`{"status":{"allowed":true}}`, func(c *apiserver.WebhookConfiguration) { c.CacheAuthorizedRequests = true }, 3},
		"failure": {`<html>`, func(c *apiserver.WebhookConfiguration) {
			c.CacheAuthorizedRequests, c.AuthorizedTTL, c.CacheUnauthorizedRequests, c.UnauthorizedTTL = true, long, true, long
		}, 3},
		"a long reason": {`{"status":{"allowed":true,"reason":"` + strings.Repeat("r", maxReason+1) + `"}}`, func(c *apiserver.WebhookConfiguration) { c.CacheAuthorizedRequests, c.AuthorizedTTL = true, long }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, text(tc.answer))
			a, err := New("hook", settings(s.file, tc.change), nil, nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ask(a, nil)
			ask(a, nil)
			ask(a, func(r *authorizer.AttributesRecord) { r.LabelSelectorRequirements = nil })
			if n := s.calls.Load(); n != tc.calls {
				t.Errorf("asked %d times, want %d", n, tc.calls)
			}
		})
	}
}

// TestBusy: a service that says that it is busy is asked again.
func TestBusy(t *testing.T) {
	var s *service
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if s.calls.Load() == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		text(`{"status":{"allowed":true}}`)(w, r)
	})
	a, err := New("hook", settings(s.file, nil), nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if d, _, err := a.Authorize(t.Context(), listPods()); d != authorizer.DecisionAllow || err != nil {
		t.Errorf("%v, %v", d, err)
	}
	if n := s.calls.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
}

func TestNewRefuses(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("clusters: 7"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none")
	for name, tc := range map[string]struct {
		c    *apiserver.WebhookConfiguration
		want string
	}{
		"no file":   {settings(none, nil), "no such file"},
		"no config": {settings(bad, nil), "kubeconfig " + bad},
		"in cluster": {settings("", func(c *apiserver.WebhookConfiguration) {
			c.ConnectionInfo = apiserver.WebhookConnectionInfo{Type: "InClusterConfig"}
		}), "want KubeConfigFile"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New("hook", tc.c, nil, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
