package webhook

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
	"strconv"
	"strings"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	arv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/client-go/informers"
	"k8s.io/utils/ptr"

	"skiff/apiserver/servicedial"
)

// maxAnswer bounds what a webhook may send.
const maxAnswer = 16 << 20

// maxClients bounds the connections that are kept.
const maxClients = 500

// caller sends reviews.
type caller struct {
	services *servicedial.Dialer

	mu      sync.Mutex
	clients map[string]*http.Client
}

func newCaller(inf informers.SharedInformerFactory) *caller {
	return &caller{services: servicedial.New(inf), clients: map[string]*http.Client{}}
}

// call posts a review and returns the checked response.
func (c *caller) call(ctx context.Context, cc *arv1.WebhookClientConfig, timeout time.Duration, review *admissionv1.AdmissionReview) (*admissionv1.AdmissionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	client, target, err := c.client(cc)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(review)
	if err != nil {
		return nil, err
	}
	q := target.Query()
	q.Set("timeout", timeout.String())
	target.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("failed to call webhook: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("failed to call webhook: %w", err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("the webhook's answer is above %d bytes", maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("failed to call webhook: the server responded with status %d: %s", resp.StatusCode, strings.TrimSpace(string(data[:min(len(data), 512)])))
	}
	var out admissionv1.AdmissionReview
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("failed to call webhook: reading the answer: %w", err)
	}
	if out.APIVersion != review.APIVersion || out.Kind != review.Kind {
		return nil, fmt.Errorf("expected webhook response of %s, Kind=%s, got %s, Kind=%s", review.APIVersion, review.Kind, out.APIVersion, out.Kind)
	}
	r := out.Response
	switch {
	case r == nil:
		return nil, errors.New("webhook response was absent")
	case r.UID != review.Request.UID:
		return nil, fmt.Errorf("expected response.uid=%q, got %q", review.Request.UID, r.UID)
	case len(r.Patch) > 0 && r.PatchType == nil:
		return nil, errors.New("webhook returned response.patch but not response.patchType")
	case len(r.Patch) == 0 && r.PatchType != nil:
		return nil, errors.New("webhook returned response.patchType but not response.patch")
	}
	return r, nil
}

// client finds the address, and a client that trusts the webhook's CA.
func (c *caller) client(cc *arv1.WebhookClientConfig) (*http.Client, *url.URL, error) {
	server, key := "", "url"
	var target *url.URL
	var dial func(ctx context.Context, network, addr string) (net.Conn, error)
	switch {
	case cc.URL != nil:
		u, err := url.Parse(*cc.URL)
		if err != nil || u.Scheme != "https" {
			return nil, nil, fmt.Errorf("url %q: only https webhooks are supported", *cc.URL)
		}
		target = u
	case cc.Service != nil:
		s := cc.Service
		port := ptr.Deref(s.Port, 443)
		server = s.Name + "." + s.Namespace + ".svc"
		key = server + ":" + strconv.Itoa(int(port))
		target = &url.URL{Scheme: "https", Host: key, Path: ptr.Deref(s.Path, "/")}
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return c.services.Dial(ctx, s.Namespace, s.Name, port)
		}
	default:
		return nil, nil, errors.New("webhook configuration must have either service or URL")
	}
	key += "\x00" + string(cc.CABundle)
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl := c.clients[key]; cl != nil {
		return cl, target, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server}
	if len(cc.CABundle) > 0 {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(cc.CABundle) {
			return nil, nil, errors.New("caBundle: unable to load root certificates: unable to parse bytes as PEM block")
		}
	}
	cl := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DialContext: dial, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if len(c.clients) >= maxClients {
		for k, old := range c.clients {
			old.CloseIdleConnections()
			delete(c.clients, k)
		}
	}
	c.clients[key] = cl
	return cl, target, nil
}
