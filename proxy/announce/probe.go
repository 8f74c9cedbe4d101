package announce

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// prober asks nodes' proxies whether they are well, as load balancers do.
type prober struct {
	cfg Config
	// changed is called when a verdict did.
	changed func()
	client  http.Client

	mu sync.Mutex // guards what follows
	// watched are the addresses of the nodes that are asked, and pulses what they said.
	watched map[string]string
	pulses  map[string]pulse
	// since is when this node's own proxy began to answer.
	since time.Time
}

func newProber(cfg Config, changed func()) *prober {
	return &prober{
		cfg: cfg, changed: changed, watched: map[string]string{}, pulses: map[string]pulse{},
		// A connection of its own for each question: an old one outlives its node.
		client: http.Client{Timeout: cfg.Ask, Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}},
	}
}

// of is what is known of a node.
func (p *prober) of(node string) verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pulses[node].verdict
}

// watch says which nodes are asked from now on, by their addresses.
func (p *prober) watch(nodes map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched = nodes
	maps.DeleteFunc(p.pulses, func(node string, _ pulse) bool { _, still := nodes[node]; return !still })
}

// answering is when this node's proxy began to answer; zero while it does not.
func (p *prober) answering() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.since
}

// run asks until ctx ends.
func (p *prober) run(ctx context.Context) {
	tick := time.NewTicker(p.cfg.Ask)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.round(ctx)
		}
	}
}

// round asks all that are watched once.
func (p *prober) round(ctx context.Context) {
	p.mu.Lock()
	nodes := maps.Clone(p.watched)
	p.mu.Unlock()
	var mu sync.Mutex
	well := map[string]bool{}
	var wg sync.WaitGroup
	for name, address := range nodes {
		wg.Go(func() {
			ok := p.ask(ctx, address) == nil
			mu.Lock()
			defer mu.Unlock()
			well[name] = ok
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return
	}
	sure := true
	for name, ok := range well {
		if !ok && name != p.cfg.NodeName {
			// That the API server answers tells that it is not this node that is cut off.
			sure = p.cfg.Connected(ctx) == nil
			break
		}
	}
	changed := false
	p.mu.Lock()
	for name, ok := range well {
		if _, still := p.watched[name]; !still {
			continue
		}
		before := p.pulses[name]
		now := before.next(ok, sure || name == p.cfg.NodeName)
		p.pulses[name] = now
		changed = changed || now.verdict != before.verdict
		if name == p.cfg.NodeName {
			switch {
			case now.verdict == dead:
				p.since = time.Time{}
			case ok && p.since.IsZero():
				p.since = time.Now()
			}
		}
		if now.verdict != before.verdict && before.verdict != unknown {
			p.cfg.Log.Info("a node's proxy answers no more, or again", "node", name, "answers", ok)
		}
	}
	p.mu.Unlock()
	if changed {
		p.changed()
	}
}

var errUnwell = errors.New("unwell")

func (p *prober) ask(ctx context.Context, address string) error {
	url := "http://" + net.JoinHostPort(address, strconv.Itoa(p.cfg.HealthPort)) + "/healthz"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 1<<16) // what it says besides does not matter
	if resp.StatusCode != http.StatusOK {
		return errUnwell
	}
	return nil
}

// connected tells whether the API server answers this node.
func (c *Config) connected(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Ask)
	defer cancel()
	_, err := c.Client.CoreV1().Nodes().Get(ctx, c.NodeName, metav1.GetOptions{})
	return err
}

// noProxy is how long a node waits for its own proxy's first answer before it announces
// without.
const noProxy = 15 * time.Second

// settled tells when a node that has begun at a time may announce addresses that others
// could have taken meanwhile: once they have had time to see that it is back.
func settled(began, answering time.Time, ask time.Duration) time.Time {
	if answering.IsZero() {
		return began.Add(noProxy)
	}
	return answering.Add(2 * ask)
}
