package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
)

// Mode is when events go to a webhook.
type Mode string

const (
	// Batch sends many at once, and no request waits for it.
	Batch Mode = "batch"
	// Blocking sends each as it comes, and its request waits.
	Blocking Mode = "blocking"
	// BlockingStrict refuses the requests too whose arrival cannot be recorded.
	BlockingStrict Mode = "blocking-strict"
)

// WebhookConfig is a service that takes lists of events.
type WebhookConfig struct {
	// KubeconfigFile says where it is and how to reach it.
	KubeconfigFile string
	// Mode is Batch where it is empty.
	Mode Mode
	// Buffer bounds the events that wait; what comes when it is full is lost, and
	// the log tells. Default 10000.
	Buffer int
	// MaxSize and MaxWait bound a batch: by events, and by the time that the first
	// one waits. Default 400 and 30 s.
	MaxSize int
	MaxWait time.Duration
	// QPS and Burst bound the batches. Default 10 and 15; Unthrottled lifts both.
	QPS         float32
	Burst       int
	Unthrottled bool
	// Backoff is the wait before the first repetition of a batch. Default 10 s.
	Backoff  time.Duration
	Truncate TruncateConfig
	Log      *slog.Logger
}

// webhookTries is how often a batch is sent before it is lost.
const webhookTries = 5

// Webhook sends events to a service.
type Webhook struct {
	cfg    WebhookConfig
	client *http.Client
	url    string
	queue  chan *auditv1.Event
	limit  flowcontrol.RateLimiter
}

// NewWebhook reads the kubeconfig.
func NewWebhook(c WebhookConfig) (*Webhook, error) {
	switch c.Mode {
	case "":
		c.Mode = Batch
	case Batch, Blocking, BlockingStrict:
	default:
		return nil, fmt.Errorf("audit webhook: mode %q: want %s, %s or %s", c.Mode, Batch, Blocking, BlockingStrict)
	}
	conf, err := clientcmd.BuildConfigFromFlags("", c.KubeconfigFile)
	if err != nil {
		return nil, fmt.Errorf("audit webhook: %s: %w", c.KubeconfigFile, err)
	}
	client, err := rest.HTTPClientFor(conf)
	if err != nil {
		return nil, fmt.Errorf("audit webhook: %s: %w", c.KubeconfigFile, err)
	}
	u, err := url.Parse(conf.Host)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("audit webhook: %s: server %q: want a URL", c.KubeconfigFile, conf.Host)
	}
	client.Timeout = 30 * time.Second
	// What is audited is not sent to where a service points.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	setDefault(&c.Buffer, 10000)
	setDefault(&c.MaxSize, 400)
	setDefault(&c.MaxWait, 30*time.Second)
	setDefault(&c.QPS, 10)
	setDefault(&c.Burst, 15)
	setDefault(&c.Backoff, 10*time.Second)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	w := &Webhook{cfg: c, client: client, url: u.String(), queue: make(chan *auditv1.Event, c.Buffer)}
	if !c.Unthrottled {
		w.limit = flowcontrol.NewTokenBucketRateLimiter(c.QPS, c.Burst)
	}
	return w, nil
}

func setDefault[T comparable](at *T, value T) {
	var zero T
	if *at == zero {
		*at = value
	}
}

// Record queues an event, or sends it, as the mode is.
func (w *Webhook) Record(ctx context.Context, e *auditv1.Event) error {
	if w.cfg.Mode != Batch {
		err := w.deliver(ctx, []*auditv1.Event{e}, webhookTries)
		if w.cfg.Mode == BlockingStrict {
			return err
		}
		return nil
	}
	select {
	case w.queue <- e:
	default:
		w.cfg.Log.Error("audit event is lost: the webhook does not keep up", "id", e.AuditID)
	}
	return nil
}

// Run sends batches until ctx ends, and then once more what is still queued.
func (w *Webhook) Run(ctx context.Context) error {
	defer w.client.CloseIdleConnections()
	for {
		batch := w.collect(ctx)
		if ctx.Err() == nil && w.limit != nil {
			_ = w.limit.Wait(ctx) // it fails when ctx ends
		}
		if ctx.Err() != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.client.Timeout)
			defer cancel()
			for len(batch) > 0 {
				_ = w.deliver(last, batch, 1) // it tells of what is lost
				batch = w.rest(nil)
			}
			return nil
		}
		_ = w.deliver(ctx, batch, webhookTries) // it tells of what is lost
	}
}

// collect waits for a first event, and for more until the batch is full or old.
func (w *Webhook) collect(ctx context.Context) []*auditv1.Event {
	var batch []*auditv1.Event
	select {
	case e := <-w.queue:
		batch = append(batch, e)
	case <-ctx.Done():
		return w.rest(nil)
	}
	timer := time.NewTimer(w.cfg.MaxWait)
	defer timer.Stop()
	for len(batch) < w.cfg.MaxSize {
		select {
		case e := <-w.queue:
			batch = append(batch, e)
		case <-timer.C:
			return batch
		case <-ctx.Done():
			return w.rest(batch)
		}
	}
	return batch
}

// rest adds what is queued now.
func (w *Webhook) rest(batch []*auditv1.Event) []*auditv1.Event {
	for len(batch) < w.cfg.MaxSize {
		select {
		case e := <-w.queue:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

const (
	listHead = `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`
	listTail = "]}"
)

// deliver sends a batch in as many parts as its bound in bytes asks for, and logs
// what is lost.
func (w *Webhook) deliver(ctx context.Context, batch []*auditv1.Event, tries int) error {
	var body bytes.Buffer
	var errs []error
	n := 0
	send := func() {
		if n == 0 {
			return
		}
		body.WriteString(listTail)
		if err := w.repeat(ctx, body.Bytes(), tries); err != nil {
			w.cfg.Log.Error("audit events are lost", "webhook", w.url, "events", n, "err", err)
			errs = append(errs, err)
		}
		body.Reset()
		n = 0
	}
	for _, e := range batch {
		b := w.cfg.Truncate.encode(e, w.cfg.Log)
		if b == nil {
			continue
		}
		if most := w.cfg.Truncate.MaxBatchSize; n > 0 && most > 0 && body.Len()+len(b) > most {
			send()
		}
		if n == 0 {
			body.WriteString(listHead)
		} else {
			body.WriteByte(',')
		}
		body.Write(b)
		n++
	}
	send()
	return errors.Join(errs...)
}

// repeat posts a list until the service takes it, or refuses it for good.
func (w *Webhook) repeat(ctx context.Context, body []byte, tries int) error {
	wait := w.cfg.Backoff
	for try := 1; ; try++ {
		again, err := w.post(ctx, body)
		if err == nil || !again || try == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(wait):
		}
		wait += wait / 2
	}
}

// post sends a list. again tells that a repetition may succeed.
func (w *Webhook) post(ctx context.Context, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return true, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // for the connection's next use
	switch code := resp.StatusCode; {
	case code < 300:
		return false, nil
	case code >= 500, code == http.StatusTooManyRequests:
		return true, fmt.Errorf("the service answered %s", resp.Status)
	default:
		return false, fmt.Errorf("the service answered %s", resp.Status)
	}
}
