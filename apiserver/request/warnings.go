package request

import (
	"context"
	"net/http"
	"sync"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/warning"
)

const (
	warningCode = 299
	// Above this many bytes of text the rest is cut or left out, so that
	// headers stay within what clients accept.
	maxWarningBytes  = 4 * 1024
	cutWarningAt     = 256
	unknownWarnAgent = "-"
)

// Warnings collects Warning headers of one response.
type Warnings struct {
	mu     sync.Mutex
	header http.Header
	seen   map[string]bool
	bytes  int
}

// WithWarnings adds a collector that writes into header. Libraries that warn
// through k8s.io/apiserver/pkg/warning reach it too.
func WithWarnings(ctx context.Context, header http.Header) context.Context {
	w := &Warnings{header: header}
	ctx = context.WithValue(ctx, warningsKey, w)
	return warning.WithWarningRecorder(ctx, w)
}

// Warn sends a warning to the client; a text is sent once.
func Warn(ctx context.Context, text string) {
	if w, ok := ctx.Value(warningsKey).(*Warnings); ok {
		w.AddWarning(unknownWarnAgent, text)
	}
}

// AddWarning implements the recorder of k8s.io/apiserver/pkg/warning.
func (w *Warnings) AddWarning(agent, text string) {
	if text == "" {
		return
	}
	if agent == "" {
		agent = unknownWarnAgent
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[text] {
		return
	}
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
	w.seen[text] = true
	if w.bytes+len(text) > maxWarningBytes {
		if w.bytes >= maxWarningBytes {
			return
		}
		if len(text) > cutWarningAt {
			text = text[:cutWarningAt]
		}
	}
	header, err := utilnet.NewWarningHeader(warningCode, agent, text)
	if err != nil {
		return
	}
	w.bytes += len(text)
	w.header.Add("Warning", header)
}
