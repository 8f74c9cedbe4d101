package audit

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/request"
)

const testPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
- level: Metadata
  resources: [{group: "", resources: [secrets, "pods/*"]}]
- level: RequestResponse
  resources: [{group: ""}]
  omitManagedFields: true
- level: Metadata
  nonResourceURLs: ["/healthz*"]
`

type sink struct{ got []*auditv1.Event }

func (s *sink) Record(_ context.Context, e *auditv1.Event) { s.got = append(s.got, e) }

// Covers: api.audit
func TestWrap(t *testing.T) {
	p, err := ParsePolicy([]byte(testPolicy))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		method, path, user, body string
		wantLevel                auditv1.Level
		wantRequest, wantAnswer  string
	}{
		"none by user and verb": {method: "GET", path: "/api/v1/nodes?watch=true", user: "system:kube-proxy"},
		"secrets without bodies": {method: "POST", path: "/api/v1/namespaces/a/secrets", user: "u", body: `{"kind":"Secret"}`,
			wantLevel: auditv1.LevelMetadata},
		"bodies without managed fields": {method: "POST", path: "/api/v1/namespaces/a/configmaps", user: "u",
			body: `{"metadata":{"name":"x","managedFields":[1]}}`, wantLevel: auditv1.LevelRequestResponse,
			wantRequest: `{"metadata":{"name":"x"}}`, wantAnswer: `{"answer":true}`},
		"path":           {method: "GET", path: "/healthz/ping", user: "u", wantLevel: auditv1.LevelMetadata},
		"no rule at all": {method: "GET", path: "/version", user: "u"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sink{}
			a, err := New(Config{Policy: p, Sinks: []Sink{s}})
			if err != nil {
				t.Fatal(err)
			}
			h := a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadAll(r.Body)
				request.Annotate(r.Context(), "k", "v")
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"answer":true}`))
			}))
			r := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body))
			ctx := request.WithInfo(r.Context(), request.Parse(r))
			ctx = request.WithUser(ctx, &user.DefaultInfo{Name: tc.user})
			h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
			if tc.wantLevel == "" {
				if len(s.got) != 0 {
					t.Errorf("recorded %+v", s.got)
				}
				return
			}
			if len(s.got) != 1 {
				t.Fatalf("%d events, want the one of the end", len(s.got))
			}
			e := s.got[0]
			gotRequest, gotAnswer := "", ""
			if e.RequestObject != nil {
				gotRequest = string(e.RequestObject.Raw)
			}
			if e.ResponseObject != nil {
				gotAnswer = string(e.ResponseObject.Raw)
			}
			got := []string{string(e.Level), gotRequest, gotAnswer, e.Annotations["k"], e.User.Username}
			if d := cmp.Diff([]string{string(tc.wantLevel), tc.wantRequest, tc.wantAnswer, "v", tc.user}, got); d != "" {
				t.Errorf("event (-want +got):\n%s", d)
			}
		})
	}
}
