package handlers_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Covers: api.delete
func TestDelete(t *testing.T) {
	s := newServer(t)
	was := s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"}}`).doc(t)
	conflict := func(body string) string {
		return s.must(http.StatusConflict, "DELETE", maps+"/a", body).status(t).Message
	}
	if got, want := conflict(`{"preconditions":{"uid":"other"}}`), fmt.Sprintf(`Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (other) does not match the UID in record (%s). The object might have been deleted and then recreated`, was.GetUID()); got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	conflict(`{"preconditions":{"resourceVersion":"1"}}`)
	st := s.must(http.StatusOK, "DELETE", maps+"/a", fmt.Sprintf(`{"preconditions":{"resourceVersion":%q}}`, was.GetResourceVersion())).status(t)
	if st.Status != metav1.StatusSuccess || st.Details == nil || st.Details.UID != was.GetUID() || st.Details.Kind != "configmaps" {
		t.Errorf("status %+v", st)
	}
	if st := s.must(http.StatusNotFound, "DELETE", maps+"/a", "").status(t); st.Message != `configmaps "a" not found` {
		t.Errorf("message %q", st.Message)
	}
	s.must(http.StatusUnprocessableEntity, "DELETE", maps+"/a?propagationPolicy=Sometimes", "")
}

// Covers: api.delete
func TestPropagationSetsFinalizers(t *testing.T) {
	s := newServer(t)
	for _, tc := range []struct {
		policy string
		want   []string
	}{
		{"Orphan", []string{metav1.FinalizerOrphanDependents}},
		{"Foreground", []string{metav1.FinalizerDeleteDependents}},
	} {
		t.Run(tc.policy, func(t *testing.T) {
			path := maps + "/" + map[string]string{"Orphan": "o", "Foreground": "f"}[tc.policy]
			s.must(http.StatusCreated, "POST", maps, fmt.Sprintf(`{"metadata":{"name":%q}}`, path[len(path)-1:]))
			got := s.must(http.StatusOK, "DELETE", path+"?propagationPolicy="+tc.policy, "").doc(t)
			if d := cmp.Diff(tc.want, got.GetFinalizers()); d != "" {
				t.Error(d)
			}
			if g := got.GetDeletionGracePeriodSeconds(); got.GetDeletionTimestamp() == nil || g == nil || *g != 0 {
				t.Errorf("metadata %v", got.Object["metadata"])
			}
			// The collector takes its finalizer off: the object goes in that write.
			last := s.must(http.StatusOK, "PATCH", path, `{"metadata":{"finalizers":null}}`, "Content-Type", mergePatch).doc(t)
			if len(last.GetFinalizers()) != 0 {
				t.Errorf("answer %v", last.Object)
			}
			s.must(http.StatusNotFound, "GET", path, "")
		})
	}
}

func TestLastFinalizerEndsInOneRevision(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a","finalizers":["x.io/y"]}}`)
	s.must(http.StatusOK, "DELETE", maps+"/a", "")
	if st := s.must(http.StatusConflict, "POST", maps, `{"metadata":{"name":"a"}}`).status(t); st.Message != `object is being deleted: configmaps "a" already exists` {
		t.Errorf("message %q", st.Message)
	}
	st := s.must(http.StatusUnprocessableEntity, "PATCH", maps+"/a", `{"metadata":{"finalizers":["x.io/y","x.io/z"]}}`, "Content-Type", mergePatch).status(t)
	if st.Details == nil || len(st.Details.Causes) == 0 || st.Details.Causes[0].Field != "metadata.finalizers" {
		t.Errorf("status %+v", st)
	}
	before, err := s.kine.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.must(http.StatusOK, "PATCH", maps+"/a", `{"metadata":{"finalizers":[]}}`, "Content-Type", mergePatch)
	if after, err := s.kine.Revision(t.Context()); err != nil || after != before+1 {
		t.Errorf("revision %d, was %d (%v)", after, before, err)
	}
	s.must(http.StatusNotFound, "GET", maps+"/a", "")
}

// Covers: api.delete
func TestPodsEndGracefully(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", pods, podBody)
	// Not on a node yet: nobody to wait for.
	s.must(http.StatusOK, "DELETE", pods+"/p", "")
	s.must(http.StatusNotFound, "GET", pods+"/p", "")

	s.must(http.StatusCreated, "POST", pods, `{"metadata":{"name":"p"},"spec":{"nodeName":"n","terminationGracePeriodSeconds":30,"containers":[{"name":"c","image":"i"}]}}`)
	grace := func(query string) int64 {
		t.Helper()
		got := s.must(http.StatusOK, "DELETE", pods+"/p"+query, "").doc(t)
		if got.GetDeletionTimestamp() == nil || got.GetDeletionGracePeriodSeconds() == nil {
			t.Fatalf("metadata %v", got.Object["metadata"])
		}
		return *got.GetDeletionGracePeriodSeconds()
	}
	if g := grace(""); g != 30 {
		t.Errorf("grace %d, want 30", g)
	}
	if g := grace("?gracePeriodSeconds=60"); g != 30 {
		t.Errorf("grace %d: a later delete made it longer", g)
	}
	if g := grace("?gracePeriodSeconds=5"); g != 5 {
		t.Errorf("grace %d, want 5", g)
	}
	s.must(http.StatusOK, "GET", pods+"/p", "")
	s.must(http.StatusOK, "DELETE", pods+"/p?gracePeriodSeconds=0", "")
	s.must(http.StatusNotFound, "GET", pods+"/p", "")
}

func TestNamespaceWaitsForItsContents(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", "/api/v1/namespaces", `{"metadata":{"name":"n"}}`)
	got := s.must(http.StatusOK, "DELETE", "/api/v1/namespaces/n", "").doc(t)
	if phase := got.Object["status"].(map[string]any)["phase"]; phase != "Terminating" || got.GetDeletionTimestamp() == nil {
		t.Errorf("namespace %v", got.Object)
	}
	got.Object["spec"] = map[string]any{}
	body, err := got.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	s.must(http.StatusOK, "PUT", "/api/v1/namespaces/n/finalize", string(body))
	s.must(http.StatusNotFound, "GET", "/api/v1/namespaces/n", "")
}

// Covers: api.delete
func TestDeleteCollection(t *testing.T) {
	s := newServer(t)
	for i := range 5 {
		s.must(http.StatusCreated, "POST", maps, fmt.Sprintf(`{"metadata":{"name":"a%d","labels":{"odd":"%v"}}}`, i, i%2 == 1))
	}
	s.must(http.StatusCreated, "POST", "/api/v1/namespaces/other/configmaps", `{"metadata":{"name":"a","labels":{"odd":"false"}}}`)
	list := s.must(http.StatusOK, "DELETE", maps+"?labelSelector=odd%3Dfalse", "").doc(t)
	if items := list.Object["items"].([]any); len(items) != 3 || list.GetKind() != "ConfigMapList" {
		t.Errorf("%s of %d", list.GetKind(), len(items))
	}
	if items := s.must(http.StatusOK, "GET", "/api/v1/configmaps", "").doc(t).Object["items"].([]any); len(items) != 3 {
		t.Errorf("%d are left, want 3", len(items))
	}
}
