package apiserver_test

import (
	"fmt"
	"testing"
	"time"

	"skiff/apiserver"
	"skiff/apiserver/admission"
	"skiff/apiserver/admission/builtin"
	"skiff/apiserver/apiservertest"
)

// Events of both groups are the same objects, and take from the same buckets.
//
// Covers: api.admission-optional
func TestEventsOfBothGroupsAreCounted(t *testing.T) {
	t.Parallel()
	s := apiservertest.Start(t, func(c *apiserver.Config) {
		c.Admission = func(d apiserver.Deps) (admission.Chain, error) {
			return apiservertest.ChainOf(d, builtin.Deps{
				Configs: map[string][]byte{"EventRateLimit": []byte("limits: [{type: Namespace, qps: 1, burst: 3}]")},
				Now:     func() time.Time { return time.Unix(0, 0) },
			}, "EventRateLimit")
		}
	})
	namespace(t, s.Client, "counted")
	const (
		core   = `{"metadata":{"name":%q},"involvedObject":{"kind":"Pod","name":"p","namespace":"counted"},"reason":"Made","type":"Normal"}`
		events = `{"metadata":{"name":%q},"regarding":{"kind":"Pod","name":"p","namespace":"counted"},"reason":"Made","type":"Normal","action":"Make",` +
			`"eventTime":"2026-01-02T03:04:05.000000Z","reportingController":"c","reportingInstance":"i"}`
	)
	for i, step := range []struct {
		group, body string
		code        int
	}{
		{"/api/v1", core, 201}, {"/apis/events.k8s.io/v1", events, 201}, {"/apis/events.k8s.io/v1", events, 201},
		{"/apis/events.k8s.io/v1", events, 429}, {"/api/v1", core, 429},
	} {
		a := s.Call(t, "POST", step.group+"/namespaces/counted/events", fmt.Sprintf(step.body, fmt.Sprintf("e%d", i)))
		if a.Code != step.code {
			t.Errorf("event %d, by %s: %d %s; want %d", i, step.group, a.Code, a.Body, step.code)
		}
	}
}
