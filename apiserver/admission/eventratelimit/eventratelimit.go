// Package eventratelimit bounds how many events are written: in all, in a
// namespace, by a user, or about one object from one source.
package eventratelimit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
	"sigs.k8s.io/yaml"

	"skiff/apiserver/admission"
)

// Name of the plugin.
const Name = "EventRateLimit"

// defaultCacheSize is how many keys of a limit are remembered.
const defaultCacheSize = 4096

// limit is one of the configuration.
type limit struct {
	Type      string `json:"type"`
	QPS       int32  `json:"qps"`
	Burst     int32  `json:"burst"`
	CacheSize int32  `json:"cacheSize"`
}

// keys tell whose bucket an event takes from.
var keys = map[string]func(a *admission.Attributes, e *v1.Event) string{
	"Server":    func(*admission.Attributes, *v1.Event) string { return "" },
	"Namespace": func(a *admission.Attributes, _ *v1.Event) string { return a.Namespace },
	"User":      func(a *admission.Attributes, _ *v1.Event) string { return a.User.GetName() },
	"SourceAndObject": func(_ *admission.Attributes, e *v1.Event) string {
		o := &e.InvolvedObject
		// events.k8s.io has another name for the source.
		component, host := cmp.Or(e.Source.Component, e.ReportingController), cmp.Or(e.Source.Host, e.ReportingInstance)
		return strings.Join([]string{component, host, o.Kind, o.Namespace, o.Name, string(o.UID), o.APIVersion}, "")
	},
}

// bucketList is a limit with what is left of it.
type bucketList struct {
	limit
	buckets *lru.Cache
}

// Plugin counts events.
type Plugin struct {
	limits []bucketList
	clock  clock.PassiveClock
	mu     sync.Mutex // one look for a bucket at a time
}

// New makes the plugin from its configuration, which must have limits.
func New(config []byte, now func() time.Time) (*Plugin, error) {
	var c struct {
		Kind       string  `json:"kind"`
		APIVersion string  `json:"apiVersion"`
		Limits     []limit `json:"limits"`
	}
	if err := yaml.UnmarshalStrict(config, &c); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(c.Limits) == 0 {
		return nil, errors.New("limits: Required value: give them in the file of --admission-control-config-file")
	}
	p := &Plugin{clock: passive(now)}
	for i, l := range c.Limits {
		switch {
		case keys[l.Type] == nil:
			return nil, fmt.Errorf("limits[%d].type: Unsupported value: %q: use Namespace, Server, SourceAndObject or User", i, l.Type)
		case l.QPS <= 0:
			return nil, fmt.Errorf("limits[%d].qps: Invalid value: %d: must be positive", i, l.QPS)
		case l.Burst <= 0:
			return nil, fmt.Errorf("limits[%d].burst: Invalid value: %d: must be positive", i, l.Burst)
		case l.CacheSize < 0:
			return nil, fmt.Errorf("limits[%d].cacheSize: Invalid value: %d: must not be negative", i, l.CacheSize)
		case l.CacheSize == 0:
			l.CacheSize = defaultCacheSize
		}
		p.limits = append(p.limits, bucketList{limit: l, buckets: lru.New(int(l.CacheSize))})
	}
	return p, nil
}

// Name is upstream's.
func (*Plugin) Name() string { return Name }

// Handles creations and updates.
func (*Plugin) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate refuses an event for which a bucket is empty. Each bucket is taken
// from, also where an earlier one refuses.
func (p *Plugin) Validate(_ context.Context, a *admission.Attributes) error {
	e, ok := a.Object.(*v1.Event)
	if !ok || a.Subresource != "" || a.DryRun {
		return nil
	}
	var refusals []string
	for _, l := range p.limits {
		key := keys[l.Type](a, e)
		if !p.bucket(l, key).TryAccept() {
			refusals = append(refusals, fmt.Sprintf("limit reached on type %s for key %s", l.Type, key))
		}
	}
	if len(refusals) > 0 {
		return apierrors.NewTooManyRequestsError(strings.Join(refusals, ", "))
	}
	return nil
}

func (p *Plugin) bucket(l bucketList, key string) flowcontrol.PassiveRateLimiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b, ok := l.buckets.Get(key); ok {
		return b.(flowcontrol.PassiveRateLimiter)
	}
	b := flowcontrol.NewTokenBucketPassiveRateLimiterWithClock(float32(l.QPS), int(l.Burst), p.clock)
	l.buckets.Add(key, b)
	return b
}

// passive is a clock that tells the given time.
type passive func() time.Time

// Now implements clock.PassiveClock.
func (p passive) Now() time.Time { return p() }

// Since implements clock.PassiveClock.
func (p passive) Since(t time.Time) time.Duration { return p().Sub(t) }
