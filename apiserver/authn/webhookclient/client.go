// Package webhookclient posts review objects to a service named by a
// kubeconfig. It follows no redirect, bounds the answer and tries again on
// answers that say so; authentication, authorisation, image policy and audit use it.
package webhookclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"skiff/apiserver/webhookcerts"
)

const (
	maxAnswer = 4 << 20
	attempts  = 5
	firstWait = 500 * time.Millisecond
)

// Client posts JSON to one URL.
type Client struct {
	url  string
	http *http.Client
}

// New takes the server and credentials of cfg. The timeout is per attempt.
func New(cfg *rest.Config, timeout time.Duration) (*Client, error) {
	if cfg.Host == "" {
		return nil, errors.New("the kubeconfig names no server")
	}
	c := rest.CopyConfig(cfg)
	c.Timeout = timeout
	c.Wrap(webhookcerts.Counted)
	hc, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, err
	}
	// A copy, since the given one may be shared.
	own := *hc
	own.Timeout = timeout
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	url := c.Host
	if !strings.Contains(url, "://") {
		url = "https://" + url
	}
	return &Client{url: url, http: &own}, nil
}

// StatusError is an answer outside 2xx.
type StatusError struct {
	Code int
	Body string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("webhook answered %d: %s", e.Code, e.Body)
}

// Post sends in and decodes the answer into out (nil: ignore it). 429 and 5xx
// answers and connections that broke are tried again with growing waits.
func (c *Client) Post(ctx context.Context, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode webhook request: %w", err)
	}
	wait := firstWait
	for i := 1; ; i++ {
		err = c.once(ctx, body, out)
		if err == nil || i == attempts || ctx.Err() != nil || !retriable(err) {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return err
		case <-t.C:
		}
		wait = wait * 3 / 2
	}
}

func retriable(err error) bool {
	var se *StatusError
	if errors.As(err, &se) {
		return se.Code == http.StatusTooManyRequests || se.Code == http.StatusInternalServerError || se.Code >= 502
	}
	// Who asks waits: a service that is not there, or does not answer in time, is
	// not asked again.
	return utilnet.IsConnectionReset(err) || utilnet.IsHTTP2ConnectionLost(err) || utilnet.IsProbableEOF(err)
}

type decodeError struct{ err error }

func (e *decodeError) Error() string { return "decode webhook answer: " + e.err.Error() }
func (e *decodeError) Unwrap() error { return e.err }

func (c *Client) once(ctx context.Context, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(data) > maxAnswer {
		return &decodeError{fmt.Errorf("answer is larger than %d bytes", maxAnswer)}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &StatusError{Code: resp.StatusCode, Body: string(data[:min(len(data), 512)])}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &decodeError{err}
	}
	return nil
}
