package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cbordirect "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
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
  resources: [{group: "*", resources: [leases]}]
- level: Metadata
  nonResourceURLs: ["/healthz*"]
`

type sink struct {
	got   []*auditv1.Event
	fails error
}

// fail answers a request that could not be recorded.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	http.Error(w, err.Error(), http.StatusInternalServerError)
}

func (s *sink) Record(_ context.Context, e *auditv1.Event) error {
	s.got = append(s.got, e)
	return s.fails
}

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
		"any group":      {method: "GET", path: "/apis/coordination.k8s.io/v1/leases", user: "u", wantLevel: auditv1.LevelMetadata},
		"path":           {method: "GET", path: "/healthz/ping", user: "u", wantLevel: auditv1.LevelMetadata},
		"no rule at all": {method: "GET", path: "/version", user: "u"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sink{}
			a, err := New(Config{Policy: p, Sinks: []Sink{s}, Fail: fail})
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

// serve sends a request through an auditor of the policy, and gives its last event.
func serve(t *testing.T, policy string, r *http.Request, chain func(*Auditor) http.Handler) *auditv1.Event {
	t.Helper()
	p, err := ParsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [" + policy + "]"))
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{}
	a, err := New(Config{Policy: p, Sinks: []Sink{s}, Fail: fail})
	if err != nil {
		t.Fatal(err)
	}
	ctx := request.WithInfo(r.Context(), request.Parse(r))
	a.Begin(chain(a)).ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
	if len(s.got) != 1 {
		t.Fatalf("%d events, want one", len(s.got))
	}
	return s.got[0]
}

// Covers: api.audit
func TestRefusedCredentialsAreRecorded(t *testing.T) {
	r := httptest.NewRequest("GET", "/api/v1/pods", nil)
	e := serve(t, "level: Metadata", r, func(a *Auditor) http.Handler {
		return a.Refused(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			request.Annotate(r.Context(), "k", "v")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"kind":"Status","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`))
		}))
	})
	want := &metav1.Status{Status: "Failure", Message: "Unauthorized", Reason: metav1.StatusReasonUnauthorized, Code: http.StatusUnauthorized}
	if d := cmp.Diff(want, e.ResponseStatus); d != "" || e.Stage != auditv1.StageResponseStarted || e.Annotations["k"] != "v" || e.User.Username != "" {
		t.Errorf("event %+v, status (-want +got):\n%s", e, d)
	}
}

// What only the object in the body says, what authentication noted, whom a user acts
// for and why a request failed is in events without bodies too.
//
// Covers: api.audit
func TestEventsWithoutBodies(t *testing.T) {
	for name, tc := range map[string]struct {
		level       string
		wantPatched string
	}{
		"metadata": {"Metadata", ""},
		"request":  {"Request", "shown"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/api/v1/namespaces/a/secrets", strings.NewReader(`{"kind":"Secret"}`))
			r.Header.Set("X-Forwarded-For", "10.0.0.1, junk")
			r.Header.Set("X-Real-Ip", "10.0.0.2")
			r.Header.Set("User-Agent", strings.Repeat("a", 2000))
			e := serve(t, "level: "+tc.level, r, func(a *Auditor) http.Handler {
				behind := a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					Impersonated(r.Context(), &user.DefaultInfo{Name: "u", Groups: []string{"other"}}, "impersonate:user-info")
					request.About(r.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "b", Name: "made", UID: "1", ResourceVersion: "5"}})
					request.AnnotateBody(r.Context(), "patch", func() string { return "shown" })
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusConflict)
					_, _ = w.Write([]byte(`{"kind":"Status","status":"Failure","message":"there is one","reason":"AlreadyExists","details":{"name":"made"},"code":409}`))
				}))
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					request.Annotate(r.Context(), "early", "yes")
					behind.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), &user.DefaultInfo{Name: "u"})))
				})
			})
			ref := &auditv1.ObjectReference{Resource: "secrets", Namespace: "a", Name: "made", UID: "1", APIVersion: "v1", ResourceVersion: "5"}
			if d := cmp.Diff(ref, e.ObjectRef); d != "" {
				t.Errorf("objectRef (-want +got):\n%s", d)
			}
			status := &metav1.Status{Status: "Failure", Message: "there is one", Reason: "AlreadyExists", Details: &metav1.StatusDetails{Name: "made"}, Code: 409}
			if d := cmp.Diff(status, e.ResponseStatus); d != "" {
				t.Errorf("responseStatus (-want +got):\n%s", d)
			}
			got := []any{e.ImpersonatedUser.Groups, e.AuthenticationMetadata.ImpersonationConstraint, e.Annotations["early"], e.Annotations["patch"], e.SourceIPs, len(e.UserAgent), e.ResponseObject == nil}
			want := []any{[]string{"other"}, "impersonate:user-info", "yes", tc.wantPatched, []string{"10.0.0.1", "10.0.0.2", "192.0.2.1"}, 1024 + len("...TRUNCATED"), true}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("event (-want +got):\n%s", d)
			}
		})
	}
}

// Covers: api.audit
func TestBodiesOfEveryFormat(t *testing.T) {
	object := map[string]any{"metadata": map[string]any{"name": "x", "managedFields": []any{"m"}}}
	cbor, err := cbordirect.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ media, body, want string }{
		"JSON":  {"application/json", `{"metadata":{"name":"x","managedFields":["m"]}}`, `{"metadata":{"name":"x"}}`},
		"YAML":  {"application/yaml", "metadata: {name: x, managedFields: [m]}", `{"metadata":{"name":"x"}}`},
		"CBOR":  {"application/cbor", string(cbor), `{"metadata":{"name":"x"}}`},
		"list":  {"application/json", `{"items":[{"metadata":{"managedFields":["m"]}}]}`, `{"items":[{"metadata":{}}]}`},
		"table": {"application/json", `{"rows":[{"cells":[1],"object":{"metadata":{"managedFields":["m"]}}}]}`, `{"rows":[{"cells":[1],"object":{"metadata":{}}}]}`},
		"text":  {"text/plain", "line\n", ""},
	} {
		got := ""
		if body := asJSON([]byte(tc.body), tc.media, true); body != nil {
			got = string(body.Raw)
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// A request that cannot be recorded as it comes in is not served; later stages
// cannot be undone.
func TestUnrecorded(t *testing.T) {
	for name, tc := range map[string]struct {
		omit string
		want int
	}{
		"as it comes in": {"", http.StatusInternalServerError},
		"when it ends":   {"omitStages: [RequestReceived]\n", http.StatusTeapot},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ParsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n" + tc.omit + "rules: [{level: Metadata}]"))
			if err != nil {
				t.Fatal(err)
			}
			a, err := New(Config{Policy: p, Sinks: []Sink{&sink{fails: errors.New("no place")}}, Fail: fail})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/version", nil)
			w := httptest.NewRecorder()
			a.Begin(a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))).
				ServeHTTP(w, r.WithContext(request.WithInfo(r.Context(), request.Parse(r))))
			if w.Code != tc.want {
				t.Errorf("code %d, want %d", w.Code, tc.want)
			}
			if tc.omit == "" && !strings.Contains(w.Body.String(), "Internal error occurred: failed to store audit event") {
				t.Errorf("answer %q", w.Body)
			}
		})
	}
}

// The start of a long answer tells its code; what is no object of the API is not kept.
func TestAnswers(t *testing.T) {
	for path, want := range map[string][]string{
		"/api/v1/configmaps?watch=true": {"ResponseStarted 200 false", "ResponseComplete 200 false"},
		"/api/v1/configmaps":            {"ResponseComplete 200 true"},
		"/apis":                         {"ResponseComplete 200 true"},
		"/version":                      {"ResponseComplete 200 false"},
	} {
		p, err := ParsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: RequestResponse}]"))
		if err != nil {
			t.Fatal(err)
		}
		s := &sink{}
		a, err := New(Config{Policy: p, Sinks: []Sink{s}, Fail: fail})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", path, nil)
		a.Begin(a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"a":1}`))
		}))).ServeHTTP(httptest.NewRecorder(), r.WithContext(request.WithInfo(r.Context(), request.Parse(r))))
		var got []string
		for _, e := range s.got {
			got = append(got, fmt.Sprintf("%s %d %t", e.Stage, e.ResponseStatus.Code, e.ResponseObject != nil))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
