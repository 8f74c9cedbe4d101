package flowcontrol

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"

	"k8s.io/utils/ptr"

	"skiff/apiserver/request"
)

// controllerOf has one level of the given size and a schema for everyone.
func controllerOf(total int, response flowcontrolv1.LimitResponse) *Controller {
	c := &Controller{cfg: Config{Total: total, MaxWait: 15e9, Objects: func(schema.GroupResource) int { return 0 }}, known: map[string]*level{}}
	l := newLevel()
	l.configure(&flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "l", UID: "level-uid"},
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: ptr.To[int32](1), LimitResponse: response}},
	}, total, 1)
	c.known["l"] = l
	everyone := []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: "*"}}}
	c.order = []*flowcontrolv1.FlowSchema{{
		ObjectMeta: metav1.ObjectMeta{Name: "s", UID: "schema-uid"},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "l"},
			DistinguisherMethod:        &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{Subjects: everyone, ResourceRules: []flowcontrolv1.ResourcePolicyRule{
				{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, Namespaces: []string{"*"}, ClusterScope: true}}}},
		},
	}}
	return c
}

func get(name string) *http.Request {
	r := httptest.NewRequest("GET", "/api/v1/namespaces/a/pods", nil)
	ctx := request.WithInfo(r.Context(), request.Parse(r))
	return r.WithContext(request.WithUser(ctx, &user.DefaultInfo{Name: name}))
}

// Covers: api.flow-control
func TestRejectsOverTheLimit(t *testing.T) {
	c := controllerOf(1, flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject})
	var second *httptest.ResponseRecorder
	var h http.Handler
	h = c.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if second == nil {
			second = httptest.NewRecorder()
			h.ServeHTTP(second, get("u"))
		}
	}))
	first := httptest.NewRecorder()
	h.ServeHTTP(first, get("u"))
	if first.Code != 200 || first.Header().Get(SchemaHeader) != "schema-uid" || first.Header().Get(LevelHeader) != "level-uid" {
		t.Errorf("the first: %d %v", first.Code, first.Header())
	}
	if second.Code != 429 || second.Header().Get("Retry-After") != "1" {
		t.Errorf("the second: %d %v", second.Code, second.Header())
	}
	if c.known["l"].executing != 0 {
		t.Errorf("%d seats are still taken", c.known["l"].executing)
	}
}

// TestQueuesAreFair: a flow with one request does not wait behind all of another's.
//
// Covers: api.flow-control
func TestQueuesAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controllerOf(1, flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue,
			Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 64, HandSize: 1, QueueLengthLimit: 20}})
		next := make(chan struct{})
		var mu sync.Mutex
		var order []string
		h := c.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-next
			mu.Lock()
			order = append(order, request.UserFrom(r.Context()).GetName())
			mu.Unlock()
		}))
		var wg sync.WaitGroup
		send := func(name string) {
			wg.Go(func() { h.ServeHTTP(httptest.NewRecorder(), get(name)) })
			synctest.Wait()
		}
		for range 10 {
			send("heavy")
		}
		send("light")
		for range 11 {
			next <- struct{}{}
			synctest.Wait()
		}
		wg.Wait()
		at := -1
		for i, name := range order {
			if name == "light" {
				at = i
			}
		}
		if at < 0 || at > 2 {
			t.Errorf("the light flow ran at place %d of %v", at, order)
		}
	})
}

func TestGivesUpWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controllerOf(1, flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue,
			Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 1, HandSize: 1, QueueLengthLimit: 1}})
		done := make(chan struct{})
		h := c.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
		var wg sync.WaitGroup
		codes := make([]int, 3)
		for i := range codes {
			wg.Go(func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, get(fmt.Sprint(i)))
				codes[i] = w.Code
			})
			synctest.Wait()
		}
		if codes[2] != 429 {
			t.Errorf("a full queue: %d", codes[2])
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, get("gone").WithContext(request.WithUser(request.WithInfo(ctx, request.Parse(get("gone"))), &user.DefaultInfo{Name: "gone"})))
		// Time passes while everybody waits: the queued one is told to come again.
		<-time.After(c.cfg.MaxWait)
		synctest.Wait()
		if codes[1] != 429 {
			t.Errorf("waited too long: %d", codes[1])
		}
		close(done)
		wg.Wait()
		if codes[0] != 200 || c.known["l"].executing != 0 || c.known["l"].waiting() != 0 {
			t.Errorf("the first: %d, %d at work, %d waiting", codes[0], c.known["l"].executing, c.known["l"].waiting())
		}
	})
}

// The pages for people say who has a seat, who waits and what became of the others.
//
// Covers: api.flow-control
func TestDumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controllerOf(1, flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue,
			Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 1, HandSize: 1, QueueLengthLimit: 1}})
		release := make(chan struct{})
		h := c.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		var wg sync.WaitGroup
		for _, name := range []string{"runs", "waits", "is refused"} {
			wg.Go(func() { h.ServeHTTP(httptest.NewRecorder(), get(name)) })
			synctest.Wait()
			time.Sleep(time.Second)
		}
		dump := func(name, query string) string {
			w := httptest.NewRecorder()
			c.Dumps()[name](w, httptest.NewRequest("GET", "/debug/api_priority_and_fairness/"+name+query, nil))
			return regexp.MustCompile(" +").ReplaceAllString(w.Body.String(), " ")
		}
		for _, tc := range []struct{ name, query, want string }{
			{"dump_priority_levels", "", "PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests\n" +
				"l, 1, false, false, 1, 1, 1, 1, 0, 0\n"},
			{"dump_queues", "", "PriorityLevelName, Index, PendingRequests, ExecutingRequests, SeatsInUse\nl, 0, 1, 1, 1\n"},
			{"dump_requests", "", "PriorityLevelName, FlowSchemaName, QueueIndex, RequestIndexInQueue, FlowDistingsher, ArriveTime, StartTime\n" +
				"l, s, 0, 0, waits, 2000-01-01T00:00:01Z, \nl, s, 0, -1, runs, 2000-01-01T00:00:00Z, 2000-01-01T00:00:00Z\n"},
			{"dump_requests", "?includeRequestDetails=1", "PriorityLevelName, FlowSchemaName, QueueIndex, RequestIndexInQueue, FlowDistingsher, ArriveTime, StartTime, UserName, Verb, APIPath, Namespace, Name, APIVersion, Resource, SubResource\n" +
				"l, s, 0, 0, waits, 2000-01-01T00:00:01Z, , waits, list, /api/v1/namespaces/a/pods, a, , v1, pods, \n" +
				"l, s, 0, -1, runs, 2000-01-01T00:00:00Z, 2000-01-01T00:00:00Z, runs, list, /api/v1/namespaces/a/pods, a, , v1, pods, \n"},
		} {
			if d := cmp.Diff(tc.want, dump(tc.name, tc.query)); d != "" {
				t.Errorf("%s%s (-want +got):\n%s", tc.name, tc.query, d)
			}
		}
		close(release)
		wg.Wait()
		if got := dump("dump_requests", ""); strings.Count(got, "\n") != 1 {
			t.Errorf("requests that ended are shown:\n%s", got)
		}
	})
}
