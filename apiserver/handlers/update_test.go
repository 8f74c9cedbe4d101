package handlers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Covers: api.update
func TestUpdate(t *testing.T) {
	s := newServer(t)
	first := s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"},"data":{"k":"1"}}`).doc(t)
	second := s.must(http.StatusOK, "PUT", maps+"/a", `{"metadata":{"name":"a"},"data":{"k":"2"}}`).doc(t)
	if second.GetResourceVersion() == first.GetResourceVersion() || second.GetUID() != first.GetUID() {
		t.Errorf("first %v, second %v", first.Object, second.Object)
	}
	same := s.must(http.StatusOK, "PUT", maps+"/a", `{"metadata":{"name":"a"},"data":{"k":"2"}}`).doc(t)
	if same.GetResourceVersion() != second.GetResourceVersion() {
		t.Error("an update that changes nothing was written")
	}
	for _, tc := range []struct {
		name, path, body string
		code             int
		message          string
	}{
		{"old version", maps + "/a", fmt.Sprintf(`{"metadata":{"name":"a","resourceVersion":%q}}`, first.GetResourceVersion()), 409, `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`},
		{"other uid", maps + "/a", `{"metadata":{"name":"a","uid":"other"}}`, 409, fmt.Sprintf(`Operation cannot be fulfilled on configmaps "a": StorageError: invalid object, Code: 4, Key: /registry/configmaps/ns/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: other, UID in object meta: %s`, first.GetUID())},
		{"other name", maps + "/a", `{"metadata":{"name":"b"}}`, 400, "the name of the object (b) does not match the name on the URL (a)"},
		{"missing object", maps + "/none", `{"metadata":{"name":"none"}}`, 404, `configmaps "none" not found`},
		{"missing object with uid", "/apis/coordination.k8s.io/v1/namespaces/ns/leases/none", `{"metadata":{"name":"none","uid":"u"}}`, 409, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.call("PUT", tc.path, tc.body)
			if st := a.status(t); a.code != tc.code || tc.message != "" && st.Message != tc.message {
				t.Errorf("code %d, message %q; want %d, %q", a.code, st.Message, tc.code, tc.message)
			}
		})
	}
}

// Covers: api.update
func TestUnconditionalUpdateNeedsLeave(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", "/apis/example.com/v1/namespaces/ns/widgets", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"}}`)
	st := s.must(http.StatusUnprocessableEntity, "PUT", "/apis/example.com/v1/namespaces/ns/widgets/w", `{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"},"a":1}`).status(t)
	if want := `widgets.example.com "w" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update`; st.Message != want {
		t.Errorf("message %q, want %q", st.Message, want)
	}
}

// Covers: api.update
func TestCreateOnUpdate(t *testing.T) {
	s := newServer(t)
	const lease = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l"
	got := s.must(http.StatusCreated, "PUT", lease, `{"metadata":{"name":"l"},"spec":{"holderIdentity":"me"}}`).doc(t)
	if got.GetUID() == "" || len(got.GetManagedFields()) != 1 {
		t.Errorf("metadata %v", got.Object["metadata"])
	}
	s.must(http.StatusUnprocessableEntity, "PUT", lease, `{"metadata":{"name":"l"},"spec":{"holderIdentity":"you"}}`)
	s.must(http.StatusOK, "PUT", lease, fmt.Sprintf(`{"metadata":{"name":"l","resourceVersion":%q},"spec":{"holderIdentity":"you"}}`, got.GetResourceVersion()))
}

// Reads come from memory, which lags behind writes: an update that changes the
// old state into itself must still see the newest.
func TestUpdateNeverTrustsAnOldState(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"},"data":{"k":"0"}}`)
	for i := range 50 {
		want := fmt.Sprint(i % 2)
		s.must(http.StatusOK, "PUT", maps+"/a", fmt.Sprintf(`{"metadata":{"name":"a"},"data":{"k":%q}}`, want))
		got, _, _ := unstructured.NestedString(s.must(http.StatusOK, "GET", maps+"/a", "").doc(t).Object, "data", "k")
		if got != want {
			t.Fatalf("round %d: read %q after writing %q", i, got, want)
		}
	}
}

func TestGenerationAndStatus(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", deploys, deployBody)
	got := s.must(http.StatusOK, "PATCH", deploys+"/d", `{"spec":{"replicas":3},"status":{"replicas":9}}`, "Content-Type", "application/merge-patch+json").doc(t)
	if n, _, _ := unstructured.NestedInt64(got.Object, "status", "replicas"); n != 0 || got.GetGeneration() != 2 {
		t.Errorf("the main endpoint: status.replicas %d, generation %d", n, got.GetGeneration())
	}
	got = s.must(http.StatusOK, "PATCH", deploys+"/d/status", `{"spec":{"replicas":5},"status":{"replicas":9}}`, "Content-Type", "application/merge-patch+json").doc(t)
	spec, _, _ := unstructured.NestedInt64(got.Object, "spec", "replicas")
	status, _, _ := unstructured.NestedInt64(got.Object, "status", "replicas")
	if spec != 3 || status != 9 || got.GetGeneration() != 2 {
		t.Errorf("the status endpoint: spec.replicas %d, status.replicas %d, generation %d", spec, status, got.GetGeneration())
	}
	var subs []string
	for _, e := range got.GetManagedFields() {
		subs = append(subs, e.Subresource)
	}
	if strings.Join(subs, ",") != ",status" {
		t.Errorf("managed fields of subresources %q", subs)
	}
}

func TestServerOwnedMetadataStays(t *testing.T) {
	s := newServer(t)
	was := s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"}}`).doc(t)
	got := s.must(http.StatusOK, "PUT", maps+"/a", `{"metadata":{"name":"a","creationTimestamp":"2001-01-01T00:00:00Z","generation":9,"labels":{"x":"y"}}}`).doc(t)
	if got.GetCreationTimestamp() != was.GetCreationTimestamp() || got.GetGeneration() != was.GetGeneration() {
		t.Errorf("metadata %v, was %v", got.Object["metadata"], was.Object["metadata"])
	}
	st := s.must(http.StatusUnprocessableEntity, "PUT", maps+"/a", `{"metadata":{"name":"a","labels":{"x y":"y"}}}`).status(t)
	if st.Reason != metav1.StatusReasonInvalid || st.Details == nil || len(st.Details.Causes) == 0 || st.Details.Causes[0].Field != "metadata.labels" {
		t.Errorf("status %+v", st)
	}
}
