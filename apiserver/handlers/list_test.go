package handlers_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// names of a list, in its order.
func names(t *testing.T, list *unstructured.Unstructured) string {
	t.Helper()
	items, _, _ := unstructured.NestedSlice(list.Object, "items")
	out := make([]string, len(items))
	for i, it := range items {
		out[i], _, _ = unstructured.NestedString(it.(map[string]any), "metadata", "name")
	}
	return strings.Join(out, " ")
}

func (s *server) makeMaps(n int) (revisions []string) {
	s.t.Helper()
	for i := range n {
		revisions = append(revisions, s.must(http.StatusCreated, "POST", maps, fmt.Sprintf(`{"metadata":{"name":"m%d","labels":{"n":"%d"}}}`, i, i)).doc(s.t).GetResourceVersion())
	}
	return revisions
}

// Covers: api.list-versions
func TestListAtVersions(t *testing.T) {
	s := newServer(t)
	rv := s.makeMaps(3)
	s.must(http.StatusOK, "DELETE", maps+"/m0", "")
	for _, tc := range []struct {
		name, query string
		code        int
		names       string
		reason      metav1.StatusReason
		message     string
	}{
		{"newest", "", 200, "m1 m2", "", ""},
		{"any", "resourceVersion=0", 200, "m1 m2", "", ""},
		{"at least", "resourceVersion=" + rv[0], 200, "m1 m2", "", ""},
		{"not older", "resourceVersionMatch=NotOlderThan&resourceVersion=" + rv[0], 200, "m1 m2", "", ""},
		{"exact", "resourceVersionMatch=Exact&resourceVersion=" + rv[1], 200, "m0 m1", "", ""},
		{"with a limit, exact", "limit=5&resourceVersion=" + rv[0], 200, "m0", "", ""},
		{"label", "labelSelector=n%3D2", 200, "m2", "", ""},
		{"name", "fieldSelector=metadata.name%3Dm1", 200, "m1", "", ""},
		{"not the name", "fieldSelector=metadata.name%21%3Dm1", 200, "m2", "", ""},
		{"match alone", "resourceVersionMatch=Exact", 422, "", metav1.StatusReasonInvalid, `ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided`},
		{"exact zero", "resourceVersionMatch=Exact&resourceVersion=0", 422, "", metav1.StatusReasonInvalid, ""},
		{"unknown match", "resourceVersionMatch=Near&resourceVersion=1", 422, "", metav1.StatusReasonInvalid, ""},
		{"no number", "resourceVersion=x", 400, "", metav1.StatusReasonBadRequest, ""},
		{"unknown field", "fieldSelector=data%3D1", 400, "", metav1.StatusReasonBadRequest, `"data" is not a known field selector: only "metadata.name", "metadata.namespace"`},
		{"bad selector", "labelSelector=%3D%3D", 400, "", metav1.StatusReasonBadRequest, ""},
		{"bad token", "continue=x&limit=1", 400, "", metav1.StatusReasonBadRequest, ""},
		{"initial events", "sendInitialEvents=true", 422, "", metav1.StatusReasonInvalid, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.call("GET", maps+"?"+tc.query, "")
			if a.code != tc.code {
				t.Fatalf("code %d, want %d: %s", a.code, tc.code, a.body)
			}
			if tc.code == 200 {
				if d := cmp.Diff(tc.names, names(t, a.doc(t))); d != "" {
					t.Error(d)
				}
				return
			}
			if st := a.status(t); st.Reason != tc.reason || tc.message != "" && st.Message != tc.message {
				t.Errorf("reason %s, message %q", st.Reason, st.Message)
			}
		})
	}
}

// Covers: api.list-pages
func TestListInPages(t *testing.T) {
	s := newServer(t)
	rv := s.makeMaps(5)
	page := s.must(http.StatusOK, "GET", maps+"?limit=2", "").doc(t)
	remaining, _, _ := unstructured.NestedInt64(page.Object, "metadata", "remainingItemCount")
	if names(t, page) != "m0 m1" || remaining != 3 || page.GetResourceVersion() != rv[4] {
		t.Fatalf("first page %s, %d remain, at %s", names(t, page), remaining, page.GetResourceVersion())
	}
	token, _, _ := unstructured.NestedString(page.Object, "metadata", "continue")
	// What happens between the pages is not seen in them.
	s.must(http.StatusOK, "DELETE", maps+"/m3", "")
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"m2a"}}`)
	page = s.must(http.StatusOK, "GET", maps+"?limit=2&continue="+url.QueryEscape(token), "").doc(t)
	if names(t, page) != "m2 m3" || page.GetResourceVersion() != rv[4] {
		t.Errorf("second page %s at %s, want m2 m3 at %s", names(t, page), page.GetResourceVersion(), rv[4])
	}
	token, _, _ = unstructured.NestedString(page.Object, "metadata", "continue")
	page = s.must(http.StatusOK, "GET", maps+"?limit=2&continue="+url.QueryEscape(token), "").doc(t)
	if more, _, _ := unstructured.NestedString(page.Object, "metadata", "continue"); names(t, page) != "m4" || more != "" {
		t.Errorf("last page %s, continue %q", names(t, page), more)
	}
	s.must(http.StatusBadRequest, "GET", maps+"?resourceVersion=1&continue="+url.QueryEscape(token), "")
}

// Covers: api.list-pages
func TestPagesAfterCompaction(t *testing.T) {
	s := newServer(t)
	rv := s.makeMaps(4)
	now, err := s.kine.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.kine.Compact(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	// A token of another server, whose state this one has no memory of.
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"v":"meta.k8s.io/v1","rv":` + rv[0] + `,"start":"ns/m2"}`))
	st := s.must(http.StatusGone, "GET", maps+"?limit=2&continue="+token, "").status(t)
	if st.Reason != metav1.StatusReasonExpired || !strings.HasPrefix(st.Message, "The provided continue parameter is too old to display a consistent list result.") || st.Continue == "" {
		t.Fatalf("status %+v", st)
	}
	page := s.must(http.StatusOK, "GET", maps+"?limit=5&continue="+url.QueryEscape(st.Continue), "").doc(t)
	if got := names(t, page); got != "m2 m3" {
		t.Errorf("inconsistent continuation has %q", got)
	}
	if st := s.must(http.StatusGone, "GET", maps+"?resourceVersionMatch=Exact&resourceVersion="+rv[0], "").status(t); st.Message != "The provided resource version is too old to display a consistent list result. Use a newer resource version." && !strings.Contains(st.Message, "too old") {
		t.Errorf("message %q", st.Message)
	}
}

// Covers: api.watch-expired
func TestVersionsThatAreNotYet(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the freshness timeout")
	}
	s := newServer(t)
	s.makeMaps(1)
	a := s.must(http.StatusGatewayTimeout, "GET", maps+"?resourceVersion=99999", "")
	st := a.status(t)
	if st.Reason != metav1.StatusReasonTimeout || st.Details == nil || len(st.Details.Causes) != 1 || st.Details.Causes[0].Type != metav1.CauseTypeResourceVersionTooLarge {
		t.Errorf("status %+v", st)
	}
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
}

func TestRequestsRefused(t *testing.T) {
	s := newServer(t)
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"}}`)
	const all = "/api/v1/configmaps"
	for _, tc := range []struct {
		name, method, path string
		code               int
		message            string
	}{
		{"a version that is none", "GET", maps + "?resourceVersion=abc", 400, `invalid resource version: resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax`},
		{"a token that is none", "GET", maps + "?continue=bogus", 400, "invalid continue token: continue key is not valid: illegal base64 data at input byte 4"},
		{"a token and a match", "GET", maps + "?continue=bogus&resourceVersion=1&resourceVersionMatch=Exact", 422, `ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided`},
		{"initial events of a list", "GET", maps + "?sendInitialEvents=true", 422, `ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list`},
		{"a watch with a match", "GET", maps + "?watch=true&resourceVersionMatch=Exact", 422, `ListOptions.meta.k8s.io "" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"]`},
		{"a watch with a token", "GET", maps + "?watch=true&continue=x", 422, `ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided`},
		{"a watch that is posted", "POST", "/api/v1/watch/configmaps", 405, ""},
		{"all namespaces' objects at once", "DELETE", all, 405, ""},
		{"a namespace without name", "DELETE", "/api/v1/namespaces//configmaps", 405, ""},
		{"a name that is a path", "GET", maps + "/%2e%2e", 400, `Name parameter invalid: "..": may not be '..'`},
		{"an export", "GET", maps + "/a?export=true", 400, "the export parameter, deprecated since v1.14, is no longer supported"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.call(tc.method, tc.path, "")
			if st := a.status(t); a.code != tc.code || tc.message != "" && st.Message != tc.message {
				t.Errorf("code %d, message %q; want %d, %q", a.code, st.Message, tc.code, tc.message)
			}
		})
	}
	if n := s.store("", "configmaps").Count(); n != 1 {
		t.Errorf("%d objects are left of one", n)
	}
}
