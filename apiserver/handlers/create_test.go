package handlers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Covers: api.status-errors
func TestCreateRefuses(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"there"}}`)
	for _, tc := range []struct {
		name, path, body string
		headers          []string
		code             int
		reason           metav1.StatusReason
		message          string
	}{
		{"name taken", maps, `{"metadata":{"name":"there"}}`, nil, 409, metav1.StatusReasonAlreadyExists, `configmaps "there" already exists`},
		{"no name", maps, `{}`, nil, 422, metav1.StatusReasonInvalid, `ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required`},
		{"bad name", maps, `{"metadata":{"name":"A_b"}}`, nil, 422, metav1.StatusReasonInvalid, "ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"},
		{"other namespace", maps, `{"metadata":{"name":"x","namespace":"other"}}`, nil, 400, metav1.StatusReasonBadRequest, "the namespace of the provided object does not match the namespace sent on the request"},
		{"other version", maps, `{"apiVersion":"v2","kind":"ConfigMap","metadata":{"name":"x"}}`, nil, 400, metav1.StatusReasonBadRequest, "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/runtime/scheme.go:111\""},
		{"version of another object", maps, `{"metadata":{"name":"x","resourceVersion":"7"}}`, nil, 500, metav1.StatusReasonUnknown, "resourceVersion should not be set on objects to be created"},
		{"other group", maps, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"}}`, nil, 400, metav1.StatusReasonBadRequest, "the API version in the data (apps/v1) does not match the expected API version (v1)"},
		{"other kind", maps, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}`, nil, 400, metav1.StatusReasonBadRequest, `Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion`},
		{"unknown kind", maps, `{"apiVersion":"v1","kind":"Nope","metadata":{"name":"x"}}`, nil, 400, metav1.StatusReasonBadRequest, `Nope in version "v1" cannot be handled as a ConfigMap: no kind "Nope" is registered for version "v1" in scheme "pkg/runtime/scheme.go:111"`},
		{"no JSON", maps, `{"metadata":{"name":"x","labels":{"a":"b"`, nil, 400, metav1.StatusReasonBadRequest, `the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({"metadata":{"name":"x","label ...)`},
		{"nothing", maps, ``, nil, 400, metav1.StatusReasonBadRequest, "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"},
		{"a list", maps, `[]`, nil, 400, metav1.StatusReasonBadRequest, `the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)`},
		{"finalizer without domain", maps, `{"metadata":{"name":"x","finalizers":["orphan","a.io/b","c"]}}`, nil, 422, metav1.StatusReasonInvalid, `ConfigMap "x" is invalid: metadata.finalizers[2]: Invalid value: "c": name is neither a standard finalizer name nor is it fully qualified`},
		{"answer that nobody reads", maps, `{"metadata":{"name":"x"}}`, []string{"Accept", "text/html"}, 406, metav1.StatusReasonNotAcceptable, "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/cbor"},
		{"unknown field, strict", maps + "?fieldValidation=Strict", `{"metadata":{"name":"x"},"dat":{}}`, nil, 400, metav1.StatusReasonBadRequest, `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dat"`},
		{"field twice, strict", maps + "?fieldValidation=Strict", `{"metadata":{"name":"x"},"data":{"a":"1","a":"2"}}`, nil, 400, metav1.StatusReasonBadRequest, `ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data.a"`},
		{"bad option", maps + "?fieldValidation=Perhaps", `{"metadata":{"name":"x"}}`, nil, 422, metav1.StatusReasonInvalid, ""},
		{"bad dry run", maps + "?dryRun=Some", `{"metadata":{"name":"x"}}`, nil, 422, metav1.StatusReasonInvalid, ""},
		{"too large", maps, `{"metadata":{"name":"x"},"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`, nil, 413, metav1.StatusReasonRequestEntityTooLarge, "Request entity too large: limit is 3145728"},
		{"unknown media type", maps, `a`, []string{"Content-Type", "text/plain"}, 415, metav1.StatusReasonUnsupportedMediaType, ""},
		{"bad protobuf", maps, `a`, []string{"Content-Type", "application/vnd.kubernetes.protobuf"}, 400, metav1.StatusReasonBadRequest, ""},
		{"unknown resource", "/api/v1/namespaces/ns/nothings", `{}`, nil, 404, metav1.StatusReasonNotFound, "the server could not find the requested resource"},
		{"all namespaces", "/api/v1/configmaps", `{}`, nil, 405, metav1.StatusReasonMethodNotAllowed, ""},
		{"below an object", maps + "/a", `{"metadata":{"name":"a"}}`, nil, 405, metav1.StatusReasonMethodNotAllowed, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.call("POST", tc.path, tc.body, tc.headers...)
			st := a.status(t)
			if a.code != tc.code || st.Reason != tc.reason || tc.message != "" && st.Message != tc.message {
				t.Errorf("code %d, reason %s, message %q; want %d, %s, %q", a.code, st.Reason, st.Message, tc.code, tc.reason, tc.message)
			}
		})
	}
	if n := s.store("", "configmaps").Count(); n != 1 {
		t.Errorf("%d objects after refused creates, want 1", n)
	}
}

// Covers: api.generate-name
func TestCreateSetsMetadata(t *testing.T) {
	s := newServer(t)
	got := s.must(http.StatusCreated, "POST", deploys, strings.Replace(deployBody, `"name":"d"`, `"generateName":"d-","uid":"mine","generation":7,"resourceVersion":"","creationTimestamp":"2001-01-01T00:00:00Z","deletionTimestamp":"2001-01-01T00:00:00Z","selfLink":"x"`, 1)).doc(t)
	if name := got.GetName(); !strings.HasPrefix(name, "d-") || len(name) != len("d-")+5 {
		t.Errorf("generated name %q", name)
	}
	if got.GetUID() == "mine" || got.GetUID() == "" {
		t.Errorf("uid %q is the client's or missing", got.GetUID())
	}
	if got.GetCreationTimestamp().Year() == 2001 || got.GetDeletionTimestamp() != nil || got.GetSelfLink() != "" {
		t.Errorf("the client set what is the server's: %v", got.Object["metadata"])
	}
	if got.GetGeneration() != 1 || got.GetResourceVersion() == "" || got.GetNamespace() != "ns" {
		t.Errorf("metadata %v", got.Object["metadata"])
	}
	mf := got.GetManagedFields()
	if len(mf) != 1 || mf[0].Manager != "tester" || mf[0].Operation != metav1.ManagedFieldsOperationUpdate || mf[0].APIVersion != "apps/v1" {
		t.Errorf("managed fields %v", mf)
	}
	if got.GetKind() != "Deployment" || got.GetAPIVersion() != "apps/v1" {
		t.Errorf("type %s %s", got.GetAPIVersion(), got.GetKind())
	}
}

// Covers: api.field-validation
func TestUnknownFieldsWarn(t *testing.T) {
	s := newServer(t)
	for _, tc := range []struct {
		name, query, body, contentType string
		want                           []string
	}{
		{"default", "", `{"metadata":{"name":"a"},"dat":1,"data":{"x":"1","x":"2"}}`, "application/json", []string{`299 - "unknown field \"dat\""`, `299 - "duplicate field \"data.x\""`}},
		{"ignore", "?fieldValidation=Ignore", `{"metadata":{"name":"b"},"dat":1}`, "application/json", nil},
		{"YAML", "", "metadata:\n  name: c\ndata:\n  a: b\n  a: c\n", "application/yaml", []string{`299 - "line 5: key \"a\" already set in map"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.must(http.StatusCreated, "POST", maps+tc.query, tc.body, "Content-Type", tc.contentType)
			if d := cmp.Diff(tc.want, a.header.Values("Warning")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDuplicateOwnersAreDropped(t *testing.T) {
	s := newServer(t)
	owner := `{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"}`
	a := s.must(http.StatusCreated, "POST", maps, fmt.Sprintf(`{"metadata":{"name":"a","ownerReferences":[%s,%s]}}`, owner, owner))
	if got := a.doc(t).GetOwnerReferences(); len(got) != 1 {
		t.Errorf("owners %v", got)
	}
	if w := a.header.Get("Warning"); !strings.Contains(w, "contains duplicate entries; API server dedups owner references in 1.20+") {
		t.Errorf("warning %q", w)
	}
}

// Covers: api.dry-run
func TestDryRunStoresNothing(t *testing.T) {
	s := newServer(t)
	rev, err := s.kine.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := s.must(http.StatusCreated, "POST", maps+"?dryRun=All", `{"metadata":{"generateName":"a-"},"data":{"k":"v"}}`).doc(t)
	if got.GetUID() == "" || got.GetName() == "" || got.GetResourceVersion() != "" {
		t.Errorf("metadata %v", got.Object["metadata"])
	}
	s.must(http.StatusCreated, "PUT", "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l?dryRun=All", `{"metadata":{"name":"l"}}`)
	if now, err := s.kine.Revision(t.Context()); err != nil || now != rev {
		t.Errorf("revision %d after dry runs, was %d (%v)", now, rev, err)
	}
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"}}`)
	if st := s.must(http.StatusConflict, "POST", maps+"?dryRun=All", `{"metadata":{"name":"a"}}`).status(t); st.Reason != metav1.StatusReasonAlreadyExists {
		t.Errorf("status %v", st)
	}
	s.must(http.StatusOK, "DELETE", maps+"/a?dryRun=All", "")
	s.must(http.StatusOK, "GET", maps+"/a", "")
}
