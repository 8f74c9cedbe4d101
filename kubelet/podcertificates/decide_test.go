package podcertificates

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	in := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(d)} }
	request := func(condition string) *certificatesv1.PodCertificateRequest {
		r := &certificatesv1.PodCertificateRequest{}
		if condition != "" {
			r.Status = certificatesv1.PodCertificateRequestStatus{Conditions: []metav1.Condition{{Type: condition, Status: metav1.ConditionTrue}}}
		}
		if condition == "Issued" {
			r.Status.BeginRefreshAt, r.Status.NotAfter = in(time.Hour), in(2*time.Hour)
		}
		return r
	}
	held := func(refresh time.Duration) *bundle {
		return &bundle{refreshAt: now.Add(refresh), notAfter: now.Add(2 * time.Hour)}
	}
	open, seen, over := &pending{until: now.Add(1)}, &pending{until: now.Add(1), seen: true}, &pending{until: now}
	for name, tc := range map[string]struct {
		state   state
		request *certificatesv1.PodCertificateRequest
		want    step
	}{
		"a new pod":                             {want: ask},
		"a request the watch does not know yet": {state: state{pending: open}, want: wait},
		"a request that was deleted":            {state: state{pending: seen}, want: ask},
		"a request that never came":             {state: state{pending: over}, want: ask},
		"no answer":                             {state: state{pending: seen}, request: request(""), want: wait},
		"no answer for long":                    {state: state{pending: over}, request: request(""), want: wait},
		"issued":                                {state: state{pending: seen}, request: request("Issued"), want: take},
		"denied":                                {state: state{pending: seen}, request: request("Denied"), want: failed},
		"failed":                                {state: state{pending: seen}, request: request("Failed"), want: failed},
		"denied for good":                       {state: state{refused: &metav1.Condition{}}, want: failed},
		"held":                                  {state: state{held: held(1)}, want: nothing},
		"held and due":                          {state: state{held: held(0)}, want: refresh},
		"held, due and failed before":           {state: state{held: held(0), retry: now.Add(1)}, want: nothing},
		"held, due and to be tried again":       {state: state{held: held(0), retry: now}, want: refresh},
		"held, and the refresh waits":           {state: state{held: held(0), pending: open}, want: wait},
		"held, and the refresh was deleted":     {state: state{held: held(0), pending: seen}, want: refresh},
		"held, and the refresh is issued":       {state: state{held: held(0), pending: seen}, request: request("Issued"), want: take},
		"held, and the refresh is denied":       {state: state{held: held(0), pending: seen}, request: request("Denied"), want: failed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decide(&tc.state, tc.request, now); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	denied := &metav1.Condition{Type: "Denied", Reason: "UnsupportedKeyType", Message: "use ED25519"}
	held := &bundle{key: []byte("k"), chain: []byte("c"), notAfter: now.Add(1)}
	for name, tc := range map[string]struct {
		state *state
		want  [3]string
	}{
		"nothing yet":   {&state{pending: &pending{}}, [3]string{"", "", "credential bundle is not issued yet"}},
		"held":          {&state{held: held}, [3]string{"k", "c", ""}},
		"no new one":    {(&state{held: held}).refuse(denied, now), [3]string{"k", "c", ""}},
		"ended":         {&state{held: &bundle{notAfter: now}}, [3]string{"", "", "the certificate ended at 2026-01-01T00:00:00Z and there is no newer one yet"}},
		"denied":        {(&state{}).refuse(denied, now), [3]string{"", "", `PodCertificateRequest was permanently denied: reason="UnsupportedKeyType" message="use ED25519"`}},
		"failed":        {(&state{}).refuse(&metav1.Condition{Type: "Failed", Reason: "R"}, now), [3]string{"", "", `PodCertificateRequest was permanently failed: reason="R" message=""`}},
		"denied, asked": {(&state{pending: &pending{}}).refuse(denied, now), [3]string{"", "", `PodCertificateRequest was permanently denied: reason="UnsupportedKeyType" message="use ED25519"`}},
	} {
		t.Run(name, func(t *testing.T) {
			key, chain, err := tc.state.credentials(now)
			got := [3]string{string(key), string(chain)}
			if err != nil {
				got[2] = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The waits between tries grow up to a limit.
func TestPostpone(t *testing.T) {
	now, s := time.Unix(0, 0), &state{held: &bundle{}}
	var got []time.Duration
	for range 9 {
		s = s.postpone(now)
		got = append(got, s.retry.Sub(now)/time.Second)
	}
	if diff := cmp.Diff([]time.Duration{10, 20, 40, 80, 160, 320, 600, 600, 600}, got); diff != "" {
		t.Error(diff)
	}
}

// What a watch tells of needs no look, and what is over none again and again.
func TestLookAt(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(n int) time.Time { return now.Add(time.Duration(n)) }
	held := func(refresh, end int) *bundle { return &bundle{refreshAt: at(refresh), notAfter: at(end)} }
	for name, tc := range map[string]struct {
		state state
		want  time.Time
	}{
		"nothing asked":                     {},
		"refused":                           {state: state{refused: &metav1.Condition{}}},
		"a request nobody saw":              {state: state{pending: &pending{until: at(1)}}, want: at(1)},
		"a request":                         {state: state{pending: &pending{until: at(-1), seen: true}}},
		"held":                              {state: state{held: held(1, 9)}, want: at(1)},
		"held, and the refresh failed":      {state: state{held: held(-1, 9), retry: at(5)}, want: at(5)},
		"held, and it ends before the try":  {state: state{held: held(-1, 3), retry: at(5)}, want: at(3)},
		"held, and the refresh is asked":    {state: state{held: held(-1, 9), pending: &pending{until: at(-1), seen: true}}, want: at(9)},
		"ended, and the refresh is asked":   {state: state{held: held(-2, -1), pending: &pending{until: at(-1), seen: true}}},
		"ended, and nobody saw the refresh": {state: state{held: held(-2, -1), pending: &pending{until: at(1)}}, want: at(1)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tc.state.lookAt(now); !got.Equal(tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
