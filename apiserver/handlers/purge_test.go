package handlers_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"k8s.io/apiserver/pkg/authentication/user"

	"skiff/apiserver/request"
)

// Covers: api.delete-unreadable
func TestUnreadableObjectIsPurged(t *testing.T) {
	s := newServer(t)
	if _, err := s.kine.Create(t.Context(), "/registry/configmaps/ns/broken", []byte("k8s\x00garbage"), 0); err != nil {
		t.Fatal(err)
	}
	s.must(http.StatusInternalServerError, "GET", maps+"/broken", "")
	s.must(http.StatusInternalServerError, "DELETE", maps+"/broken", "")
	// Others are not hidden by it.
	s.must(http.StatusCreated, "POST", maps, `{"metadata":{"name":"a"}}`)
	s.must(http.StatusOK, "GET", maps+"/a", "")

	purge := func(name, who string) int {
		r := httptest.NewRequest("DELETE", maps+"/"+name+"?ignoreStoreReadErrorWithClusterBreakingPotential=true", nil)
		ctx := request.WithUser(request.WithInfo(t.Context(), request.Parse(r)), &user.DefaultInfo{Name: who})
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r.WithContext(ctx))
		return w.Code
	}
	if code := purge("broken", "nobody"); code != http.StatusForbidden {
		t.Errorf("code %d for one who may not", code)
	}
	if code := purge("broken", "admin"); code != http.StatusOK {
		t.Errorf("code %d", code)
	}
	s.must(http.StatusNotFound, "GET", maps+"/broken", "")
	// It is for nothing else, and never for many.
	if code := purge("a", "admin"); code != http.StatusUnprocessableEntity {
		t.Errorf("code %d for a good object", code)
	}
	if code := purge("none", "admin"); code != http.StatusNotFound {
		t.Errorf("code %d for no object", code)
	}
	s.must(http.StatusUnprocessableEntity, "DELETE", maps+"?ignoreStoreReadErrorWithClusterBreakingPotential=true", "")
	s.must(http.StatusOK, "GET", maps+"/a", "")
}
