package metricsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

const (
	// fresh is how long an answer of a kubelet serves.
	fresh = 15 * time.Second
	// patience is how long a kubelet may take; another's answer does not wait longer.
	patience = 5 * time.Second
	// atOnce bounds the kubelets that are asked side by side.
	atOnce = 16
	// maxSummary bounds an answer.
	maxSummary = 16 << 20
)

// cache keeps the last answer of each kubelet that was asked for.
type cache struct {
	fetch func(ctx context.Context, node string) (*statsv1.Summary, error)
	mu    sync.Mutex
	nodes map[string]*entry
}

type entry struct {
	mu      sync.Mutex // one question to a kubelet at a time
	at      time.Time
	summary *statsv1.Summary
}

func newCache(fetch func(context.Context, string) (*statsv1.Summary, error)) *cache {
	return &cache{fetch: fetch, nodes: map[string]*entry{}}
}

// read gives the summaries of the nodes; a kubelet that does not answer has none.
func (c *cache) read(ctx context.Context, nodes []string) map[string]*statsv1.Summary {
	out := map[string]*statsv1.Summary{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, n := range nodes {
		if n == "" {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s := c.one(ctx, n)
			mu.Lock()
			out[n] = s
			mu.Unlock()
		})
	}
	wg.Wait()
	c.forget()
	return out
}

func (c *cache) one(ctx context.Context, node string) *statsv1.Summary {
	c.mu.Lock()
	e := c.nodes[node]
	if e == nil {
		e = &entry{}
		c.nodes[node] = e
	}
	c.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.at) < fresh {
		return e.summary
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := c.fetch(ctx, node)
	if err != nil {
		slog.Debug("no metrics", "err", unreachable(node, err))
		return nil
	}
	e.at, e.summary = time.Now(), s
	return s
}

// forget drops what nobody has asked for in a while.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, e := range c.nodes {
		if e.mu.TryLock() {
			if time.Since(e.at) > 4*fresh {
				delete(c.nodes, name)
			}
			e.mu.Unlock()
		}
	}
}

// Fetch reads /stats/summary with the transport, from where kubelet says.
func Fetch(kubelet func(ctx context.Context, node string) (*url.URL, error), transport func() http.RoundTripper) func(context.Context, string) (*statsv1.Summary, error) {
	return func(ctx context.Context, node string) (*statsv1.Summary, error) {
		u, err := kubelet(ctx, node)
		if err != nil {
			return nil, err
		}
		u.Path = "/stats/summary"
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		resp, err := transport().RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, maxSummary))
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s answers %s", u.Host, resp.Status)
		}
		var s statsv1.Summary
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, err
		}
		return &s, nil
	}
}
