// Package webhookclient sends requests to webhooks that objects describe by a URL or
// by a service: over TLS, without following redirects, with bounded answers.
package webhookclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"skiff/apiserver/webhookcerts"
	"skiff/cluster/tracing"
)

const (
	// maxAnswer bounds what a webhook may send.
	maxAnswer = 16 << 20
	// maxShown bounds what of a failure's answer is told.
	maxShown = 512
	// maxClients bounds the connections that are kept.
	maxClients = 500
)

// Dial connects to a ready endpoint of a service's port.
type Dial func(ctx context.Context, namespace, service string, port int32) (net.Conn, error)

// Service is a port of a service, and the path below it.
type Service struct {
	Namespace, Name string
	Path            *string
	Port            *int32
}

// Target is where a webhook is: one of URL and Service.
type Target struct {
	URL     *string
	Service *Service
	// CABundle are the authorities of its certificate, in PEM; none are the machine's.
	CABundle []byte
}

// Clients keeps connections to webhooks.
type Clients struct {
	dial Dial

	mu   sync.Mutex
	kept map[string]*http.Client
}

// New makes clients that reach services by dial.
func New(dial Dial) *Clients { return &Clients{dial: dial, kept: map[string]*http.Client{}} }

// Close ends the connections that nothing uses.
func (c *Clients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, client := range c.kept {
		client.CloseIdleConnections()
		delete(c.kept, key)
	}
}

// Check tells whether a target can be used.
func (c *Clients) Check(t Target) error {
	_, _, err := c.client(t)
	return err
}

// Post sends in to a webhook, as JSON, and reads what it answers into out.
func (c *Clients) Post(ctx context.Context, t Target, query url.Values, in, out any) error {
	client, target, err := c.client(t)
	if err != nil {
		return err
	}
	if len(query) > 0 {
		q := target.Query()
		for key, values := range query {
			q[key] = values
		}
		target.RawQuery = q.Encode()
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*")
	tracing.Inject(ctx, req.Header)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(data) > maxAnswer {
		return fmt.Errorf("the webhook's answer is above %d bytes", maxAnswer)
	}
	switch kind := resp.Header.Get("Content-Type"); {
	case resp.StatusCode < http.StatusOK || resp.StatusCode > http.StatusPartialContent:
		return refused(resp.StatusCode, kind, data)
	case len(data) == 0:
		return fmt.Errorf("0-length response with status code: %d and content type: %s", resp.StatusCode, kind)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("couldn't get version/kind; json parse error: %w", err)
	}
	return nil
}

// refused is the error of an answer that is no success: the Status that it is, or
// what its code says.
func refused(code int, kind string, data []byte) error {
	var status metav1.Status
	if json.Unmarshal(data, &status) == nil && status.Kind == "Status" && status.Status == metav1.StatusFailure && len(data) <= maxShown {
		return &apierrors.StatusError{ErrStatus: status}
	}
	text := "unknown"
	if strings.HasPrefix(kind, "text/") {
		text = strings.TrimSpace(string(data[:min(len(data), maxShown)]))
	}
	if code < http.StatusBadRequest {
		return fmt.Errorf("the server responded with status %d: redirects are not followed", code)
	}
	return apierrors.NewGenericServerResponse(code, http.MethodPost, schema.GroupResource{}, "", text, 0, true)
}

// client is the one for a target, and the address to send to.
func (c *Clients) client(t Target) (*http.Client, *url.URL, error) {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 16,
	}
	var target *url.URL
	key := "url"
	switch {
	case t.URL != nil:
		var err error
		if target, err = url.Parse(*t.URL); err != nil || target.Scheme != "https" {
			return nil, nil, fmt.Errorf("url %q: only https webhooks are supported", *t.URL)
		}
	case t.Service != nil:
		s, port := t.Service, ptr.Deref(t.Service.Port, 443)
		server := s.Name + "." + s.Namespace + ".svc"
		key = server + ":" + strconv.Itoa(int(port))
		target = &url.URL{Scheme: "https", Host: key, Path: ptr.Deref(s.Path, "/")}
		transport.TLSClientConfig.ServerName = server
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return c.dial(ctx, s.Namespace, s.Name, port)
		}
	default:
		return nil, nil, errors.New("webhook configuration must have either service or URL")
	}
	// Servers redirect to the clean form of a path, and redirects are not followed.
	target.Path = path.Join("/", target.Path)
	ca := bytes.TrimSpace(t.CABundle)
	key += "\x00" + string(ca)
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept := c.kept[key]; kept != nil {
		return kept, target, nil
	}
	if len(ca) > 0 {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(ca) {
			return nil, nil, errors.New("caBundle: unable to load root certificates: unable to parse bytes as PEM block")
		}
	}
	if len(c.kept) >= maxClients {
		for key, old := range c.kept {
			old.CloseIdleConnections()
			delete(c.kept, key)
		}
	}
	client := &http.Client{Transport: webhookcerts.Counted(transport), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c.kept[key] = client
	return client, target, nil
}
