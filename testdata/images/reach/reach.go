// Package reach asks many addresses at once who is there, for the tables of who
// reaches whom.
package reach

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Nobody stands for an answer that did not come.
const Nobody = "-"

// All asks each target, tcp:ADDRESS:PORT (which serves HTTP) or udp:ADDRESS:PORT,
// from a port of its own, and returns in the same order who answered and which
// address it saw: "web 10.0.0.1", or Nobody.
func All(ctx context.Context, targets []string, patience time.Duration) []string {
	answers := make([]string, len(targets))
	var asking sync.WaitGroup
	for i, target := range targets {
		asking.Go(func() {
			var err error
			if answers[i], err = one(ctx, target, patience); err != nil {
				answers[i] = Nobody
			}
		})
	}
	asking.Wait()
	return answers
}

func one(ctx context.Context, target string, patience time.Duration) (string, error) {
	network, address, _ := strings.Cut(target, ":")
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch network {
	case "tcp":
		return overHTTP(ctx, address)
	case "udp":
		return overUDP(ctx, address)
	}
	return "", fmt.Errorf("target %q: want tcp:ADDRESS or udp:ADDRESS", target)
}

func overHTTP(ctx context.Context, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/who", nil)
	if err != nil {
		return "", err
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return strings.TrimSpace(string(b)), err
}

// overUDP asks again what may have been lost.
func overUDP(ctx context.Context, address string) (string, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	end, _ := ctx.Deadline()
	b := make([]byte, 1<<10)
	for step := time.Until(end) / 3; time.Now().Before(end); {
		if _, err = io.WriteString(c, "who"); err != nil {
			return "", err
		}
		if err = c.SetReadDeadline(time.Now().Add(step)); err != nil {
			return "", err
		}
		var n int
		if n, err = c.Read(b); err == nil {
			return strings.TrimSpace(string(b[:n])), nil
		}
	}
	return "", err
}

// Answer is what a server says to who asks from an address.
func Answer(hostname, from string) string {
	if a, err := netip.ParseAddrPort(from); err == nil {
		from = a.Addr().Unmap().String()
	}
	return hostname + " " + from + "\n"
}
