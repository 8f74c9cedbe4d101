package handlers

import (
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// WatchObserver is told of watches.
type WatchObserver interface {
	// Watching is a watch that begins.
	Watching(gvr schema.GroupVersionResource, scope string) Watched
}

// Watched is told what one watch is sent.
type Watched interface {
	// Sent is an event, by its bytes.
	Sent(size int)
	// Listed is the end of the state that the watch began with.
	Listed(took time.Duration)
}

type unwatched struct{}

func (unwatched) Sent(int)             {}
func (unwatched) Listed(time.Duration) {}

// watched is who is told of a watch.
func (a *API) watched(t *Target, scope string) Watched {
	if a.cfg.Watches == nil {
		return unwatched{}
	}
	return a.cfg.Watches.Watching(t.GVR(), scope)
}
