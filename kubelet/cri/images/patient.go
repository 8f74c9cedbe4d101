package images

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// patience is how often a registry that is too busy for a manifest is asked again, unless
// it wants to be left alone for longer than longestWait.
const (
	patience    = 3
	longestWait = 5 * time.Second
)

// patient asks a registry again that is too busy to give a manifest, when it says; blobs
// have a way of their own to go on.
type patient struct{ base http.RoundTripper }

func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for n := 0; ; n++ {
		resp, err := p.base.RoundTrip(r)
		if err != nil || n == patience || r.Body != nil || !strings.Contains(r.URL.Path, "/manifests/") ||
			resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout {
			return resp, err
		}
		wait := pause(resp.Header.Get("Retry-After"), n)
		if wait > longestWait {
			return resp, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.Context().Done():
			timer.Stop()
			return resp, nil
		}
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
		_ = resp.Body.Close()
	}
}

// pause is how long to wait before another try: as many seconds as the registry says, or
// a little longer each time.
func pause(said string, before int) time.Duration {
	if n, err := strconv.ParseUint(said, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	return 500 * time.Millisecond << before
}
