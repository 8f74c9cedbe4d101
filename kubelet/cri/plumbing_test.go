package cri

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

// slowWriter takes a little at a time, and only when it is told to.
type slowWriter struct {
	bytes.Buffer
	next chan struct{}
}

func (w *slowWriter) Write(b []byte) (int, error) {
	<-w.next
	return w.Buffer.Write(b)
}

// What a process has written reaches a client that is slower than the patience for
// those that it has left behind.
//
// Covers: api.streams
func TestDrainWaitsForASlowClient(t *testing.T) {
	const patience = time.Millisecond
	written := strings.Repeat("x", 60000)
	for name, open := range map[string]bool{"streams closed": false, "streams held open": true} {
		t.Run(name, func(t *testing.T) {
			p := newPlumbing()
			defer p.closeAll()
			out := &slowWriter{next: make(chan struct{})}
			if err := p.connect(nil, out, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(p.theirs[0], written); err != nil {
				t.Fatal(err)
			}
			if !open {
				p.closeTheirs()
			}
			p.start()
			drained := make(chan struct{})
			go func() {
				p.drain(patience)
				close(drained)
			}()
			// The client is away for many times the patience.
			select {
			case <-drained:
				t.Error("the client has not read yet")
			case <-time.After(50 * patience):
			}
			close(out.next)
			<-drained
			if out.String() != written {
				t.Errorf("the client got %d bytes of %d", out.Len(), len(written))
			}
		})
	}
}
