package handlers

import (
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// stall ends a watch whose client takes nothing: what piles up for it is the
// server's memory. It runs only while something is being sent, so that a client
// that nothing is said to may be silent for as long as it likes.
type stall struct {
	after time.Duration
	timer *time.Timer
}

// newStall calls cut where sending one event takes longer than after.
func newStall(after time.Duration, cut func()) *stall {
	timer := time.AfterFunc(after, cut)
	timer.Stop()
	return &stall{after: after, timer: timer}
}

// sending is called before each event, sent when no more is to be sent.
func (s *stall) sending() { s.timer.Reset(s.after) }
func (s *stall) sent()    { s.timer.Stop() }

// cutResponse makes a write that blocks fail. What is in memory cannot be cut, and
// is never a stranger's.
func cutResponse(w http.ResponseWriter) func() {
	c := http.NewResponseController(w)
	return func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) }
}

// cutSocket ends a WebSocket. Closing would wait for its turn to write.
func cutSocket(c *websocket.Conn) func() {
	return func() { _ = c.NetConn().Close() }
}
