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
		"an error, at length": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, long, http.StatusInternalServerError) }, `an error on the server ("` + long[:512] + `") has prevented`},
		"no review":           {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`[]`)) }, "json parse error"},
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

func TestAnswersThatAreNoReview(t *testing.T) {
	for name, tc := range map[string]struct {
		mutates      bool
		answer, want string
		code         int
	}{
		"another uid":        {true, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"2"}}`, `received invalid webhook response: expected response.uid="1", got "2"`, 200},
		"no kind":            {true, `{"response":{"uid":"1"}}`, "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=", 200},
		"another kind":       {true, `{"apiVersion":"admission.k8s.io/v1","kind":"Foo"}`, `failed to call webhook: no kind "Foo" is registered for version "admission.k8s.io/v1"`, 200},
		"the other version":  {true, `{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}`, "failed to call webhook: converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion", 200},
		"no response":        {true, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, "received invalid webhook response: webhook response was absent", 200},
		"nothing":            {true, ``, "failed to call webhook: 0-length response with status code: 200 and content type: application/json", 200},
		"a patch unasked":    {false, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"1","patch":"W10="}}`, "received invalid webhook response: validating webhook may not return response.patch", 200},
		"a failure":          {true, `boom`, `failed to call webhook: an error on the server ("unknown") has prevented the request from succeeding`, 500},
		"a failure's status": {true, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"told"}`, "failed to call webhook: told", 500},
		"no such path":       {true, `nf`, "failed to call webhook: the server could not find the requested resource", 404},
		"created":            {true, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"1","allowed":true}}`, "", 201},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tc.code)
				_, _ = io.WriteString(w, tc.answer)
			}))
			defer s.Close()
			clients := webhookclient.New(nil)
			defer clients.Close()
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
			review := &admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{UID: "1"}}
			review.APIVersion, review.Kind = "admission.k8s.io/v1", "AdmissionReview"
			_, err := call(t.Context(), clients, &arv1.WebhookClientConfig{URL: ptr.To(s.URL), CABundle: ca}, time.Minute, review, tc.mutates)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, tc.want) || got != "" && tc.want == "" {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
