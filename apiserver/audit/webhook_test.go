package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// receiver is a service that takes events; fail says with what it refuses a try.
type receiver struct {
	lists chan auditv1.EventList
	tries int
}

func startReceiver(t *testing.T, c WebhookConfig, fail func(try int) int) (*receiver, *Webhook, *bytes.Buffer) {
	t.Helper()
	r := &receiver{lists: make(chan auditv1.EventList, 100)}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.tries++
		if fail != nil {
			if code := fail(r.tries); code != 0 {
				http.Error(w, "no", code)
				return
			}
		}
		var list auditv1.EventList
		if err := json.NewDecoder(req.Body).Decode(&list); err != nil || list.Kind != "EventList" {
			t.Errorf("list %+v: %v", list.TypeMeta, err)
		}
		r.lists <- list
	}))
	t.Cleanup(srv.Close)
	c.KubeconfigFile = filepath.Join(t.TempDir(), "kubeconfig")
	conf := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: '%s/events'}}]\nusers: []\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n", srv.URL)
	if err := os.WriteFile(c.KubeconfigFile, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	said := &bytes.Buffer{}
	c.Log = slog.New(slog.NewTextHandler(said, nil))
	w, err := NewWebhook(c)
	if err != nil {
		t.Fatal(err)
	}
	return r, w, said
}

// run runs the webhook until stop, which waits for its end.
func run(t *testing.T, w *Webhook) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func event(id int, object string) *auditv1.Event {
	e := &auditv1.Event{AuditID: types.UID(fmt.Sprint(id))}
	if object != "" {
		e.RequestObject = &runtime.Unknown{Raw: []byte(`"` + object + `"`)}
	}
	return e
}

func next(t *testing.T, r *receiver) auditv1.EventList {
	t.Helper()
	select {
	case l := <-r.lists:
		return l
	case <-time.After(30 * time.Second):
		t.Fatal("no list came")
		return auditv1.EventList{}
	}
}

func TestWebhookBatches(t *testing.T) {
	r, w, _ := startReceiver(t, WebhookConfig{MaxSize: 3, MaxWait: time.Hour}, nil)
	stop := run(t, w)
	for i := range 7 {
		_ = w.Record(t.Context(), event(i, ""))
	}
	for range 2 {
		if n := len(next(t, r).Items); n != 3 {
			t.Errorf("a batch of %d, want 3", n)
		}
	}
	// The end sends what waits for a full batch.
	stop()
	if l := next(t, r); len(l.Items) != 1 || l.Items[0].AuditID != "6" {
		t.Errorf("the last batch: %+v", l.Items)
	}
}

func TestWebhookRepeats(t *testing.T) {
	for name, tc := range map[string]struct {
		fail func(int) int
		want int // tries
		lost bool
	}{
		"a service that recovers": {func(try int) int { return map[bool]int{true: 503}[try < 3] }, 3, false},
		"a service that refuses":  {func(int) int { return 400 }, 1, true},
		"a service that is gone":  {func(int) int { return 500 }, webhookTries, true},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, said := startReceiver(t, WebhookConfig{Backoff: time.Nanosecond}, tc.fail)
			_ = w.deliver(t.Context(), []*auditv1.Event{event(1, "")}, webhookTries)
			if r.tries != tc.want {
				t.Errorf("%d tries, want %d", r.tries, tc.want)
			}
			if lost := strings.Contains(said.String(), "audit events are lost"); lost != tc.lost {
				t.Errorf("the log tells of a loss: %v, want %v", lost, tc.lost)
			}
		})
	}
}

func TestWebhookBounds(t *testing.T) {
	r, w, said := startReceiver(t, WebhookConfig{Buffer: 1, Truncate: TruncateConfig{MaxEventSize: 400, MaxBatchSize: 600}}, nil)
	large := event(3, "")
	large.RequestURI = strings.Repeat("x", 1000)
	_ = w.deliver(t.Context(), []*auditv1.Event{event(1, strings.Repeat("a", 1000)), event(2, "kept"), large, event(4, ""), event(5, "")}, 1)
	var all []auditv1.Event
	lists := len(r.lists)
	for range lists {
		all = append(all, next(t, r).Items...)
	}
	if len(all) != 4 || lists < 2 {
		t.Fatalf("%d events in %d lists", len(all), lists)
	}
	if first := all[0]; first.RequestObject != nil || first.Annotations[truncated] != "true" {
		t.Errorf("a large event kept its object: %+v", first)
	}
	if second := all[1]; second.RequestObject == nil || second.Annotations[truncated] != "" {
		t.Errorf("a small event was cut: %+v", second)
	}
	if !strings.Contains(said.String(), "too large without its objects") {
		t.Errorf("the log does not tell of the event that is too large: %s", said)
	}
	_ = w.Record(t.Context(), event(6, ""))
	_ = w.Record(t.Context(), event(7, ""))
	if !strings.Contains(said.String(), "does not keep up") {
		t.Error("the log does not tell of an event that found the buffer full")
	}
}

// Covers: api.audit
func TestWebhookModes(t *testing.T) {
	for name, tc := range map[string]struct {
		mode Mode
		fail int
		want bool // an error
	}{
		"blocking":                {Blocking, 0, false},
		"blocking, refused":       {Blocking, 400, false},
		"strictly":                {BlockingStrict, 0, false},
		"strictly, refused":       {BlockingStrict, 400, true},
		"a batch, never sent yet": {Batch, 400, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, w, _ := startReceiver(t, WebhookConfig{Mode: tc.mode, Backoff: time.Nanosecond}, func(int) int { return tc.fail })
			if err := w.Record(t.Context(), event(1, "")); (err != nil) != tc.want {
				t.Errorf("error %v, want one: %v", err, tc.want)
			}
			want := 1
			if tc.mode == Batch {
				want = 0
			}
			if r.tries != want {
				t.Errorf("%d events were sent before Record returned, want %d", r.tries, want)
			}
		})
	}
	if _, err := NewWebhook(WebhookConfig{Mode: "sometimes"}); err == nil || !strings.Contains(err.Error(), `mode "sometimes": want batch, blocking or blocking-strict`) {
		t.Errorf("an unknown mode: %v", err)
	}
}
