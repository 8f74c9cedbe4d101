package images

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A registry that is too busy for a manifest is asked again, but not for ever.
func TestBusyRegistry(t *testing.T) {
	needRoot(t)
	for _, tc := range []struct {
		name   string
		status int
		after  string
		busy   int64
		asked  int64
		want   string
	}{
		{"twice", http.StatusTooManyRequests, "0", 2, 3, ""},
		{"slow twice", http.StatusRequestTimeout, "0", 2, 3, ""},
		{"for good", http.StatusTooManyRequests, "0", 100, 1 + patience, "429 Too Many Requests"},
		{"for an hour", http.StatusTooManyRequests, "3600", 1, 1, "429 Too Many Requests"},
		{"broken", http.StatusForbidden, "0", 1, 1, "403 Forbidden"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.push(t, "mirrored/app:1", makeImage(t, makeLayer(t, file("f", "x"))))
			var asked atomic.Int64
			fault := func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/1") || asked.Add(1) > tc.busy {
					return false
				}
				w.Header().Set("Retry-After", tc.after)
				w.WriteHeader(tc.status)
				return true
			}
			f.fault.Store(&fault)
			_, err := f.store.Pull(t.Context(), f.registry+"/mirrored/app:1", Auth{}, nil)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if n := asked.Load(); n != tc.asked {
				t.Errorf("the registry was asked %d times, want %d", n, tc.asked)
			}
		})
	}
}

func TestPause(t *testing.T) {
	for _, tc := range []struct {
		said   string
		before int
		want   time.Duration
	}{
		{"", 0, 500 * time.Millisecond}, {"", 2, 2 * time.Second}, {"2", 0, 2 * time.Second}, {"0", 1, 0},
		{"3600", 0, time.Hour}, {"-1", 0, 500 * time.Millisecond}, {"Fri, 31 Dec 1999 23:59:59 GMT", 0, 500 * time.Millisecond},
	} {
		if got := pause(tc.said, tc.before); got != tc.want {
			t.Errorf("pause after %q: %v, want %v", tc.said, got, tc.want)
		}
	}
}
