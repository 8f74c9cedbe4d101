package webhook

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	arv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/utils/ptr"

	"skiff/apiserver/webhookclient"
)

// A webhook cannot send this server on to other places of its network, whatever it
// answers, nor fill its memory (CVE-2020-8561).
//
// Covers: api.webhooks
func TestAnswersOfHostileWebhooks(t *testing.T) {
	var elsewhere atomic.Int64
	trap := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer trap.Close()
	long := strings.Repeat("x", 1<<20)
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, trap.URL, http.StatusTemporaryRedirect)
		}, "status 307"},
		"redirect as a get": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, trap.URL, http.StatusFound) }, "status 302"},
		"more than is read": {func(w http.ResponseWriter, _ *http.Request) {
			for range 17 {
				_, _ = w.Write([]byte(long))
			}
		}, "is above 16777216 bytes"},
		"an error, at length": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, long, http.StatusInternalServerError) }, "status 500: " + long[:512]},
		"no review":           {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`[]`)) }, "reading the answer"},
		"no answer in time": {func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // its end is seen only behind it
			<-r.Context().Done()
		}, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewTLSServer(tc.answer)
			defer s.Close()
			clients := webhookclient.New(nil)
			defer clients.Close()
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
			timeout := 10 * time.Second
			if name == "no answer in time" {
				timeout = 50 * time.Millisecond
			}
			_, err := call(t.Context(), clients, &arv1.WebhookClientConfig{URL: ptr.To(s.URL), CABundle: ca}, timeout,
				&admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{UID: "1"}}, true)
			if err == nil || !strings.Contains(err.Error(), tc.want) || len(err.Error()) > 2048 {
				t.Errorf("got %.200v, want %.200s", err, tc.want)
			}
			if elsewhere.Load() != 0 {
				t.Error("the redirect was followed")
			}
		})
	}
}
