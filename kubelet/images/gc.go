package images

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// GCConfig configures a collector of unused images.
type GCConfig struct {
	Runtime  internalapi.RuntimeService
	Images   internalapi.ImageManagerService
	Recorder record.EventRecorder
	// Node is what events are about.
	Node runtime.Object
	// HighPercent of use starts a collection, which goes down to LowPercent.
	HighPercent, LowPercent int
	MinAge, MaxAge          time.Duration
	// Access forgets images that are gone; may be nil.
	Access *Access
	// Usage returns capacity and available bytes of the image file system.
	Usage func(context.Context) (capacity, available uint64, err error)
	Now   func() time.Time
}

// GC removes images.
type GC struct {
	cfg GCConfig

	mu   sync.Mutex // guards what follows
	seen map[string]*usage
	// failed says that the last collection did.
	failed bool
}

type usage struct {
	firstDetected, lastUsed time.Time
	size                    uint64
	pinned, used            bool
}

// NewGC checks the configuration.
func NewGC(cfg GCConfig) (*GC, error) {
	if cfg.Runtime == nil || cfg.Images == nil {
		return nil, errors.New("images: Runtime and Images are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &GC{cfg: cfg, seen: map[string]*usage{}}, nil
}

// detect notes which images exist and which are in use. Caller holds mu.
func (g *GC) detect(ctx context.Context, now time.Time) error {
	list, err := g.cfg.Images.ListImages(ctx, nil)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	containers, err := g.cfg.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	inUse := map[string]bool{}
	for _, c := range containers {
		inUse[c.ImageRef], inUse[c.ImageId], inUse[c.Image.GetImage()] = true, true, true
	}
	exists := map[string]bool{}
	for _, i := range list {
		exists[i.Id] = true
		u := g.seen[i.Id]
		if u == nil {
			u = &usage{firstDetected: now}
			g.seen[i.Id] = u
		}
		u.size, u.pinned = i.Size, i.Pinned
		u.used = inUse[i.Id]
		for _, names := range [][]string{i.RepoTags, i.RepoDigests} {
			for _, n := range names {
				u.used = u.used || inUse[n]
			}
		}
		if u.used {
			u.lastUsed = now
		}
	}
	for id := range g.seen {
		if !exists[id] {
			delete(g.seen, id)
		}
	}
	if g.cfg.Access == nil {
		return nil
	}
	return g.cfg.Access.Forget(func(ref string) bool { return exists[ref] })
}

// Collect removes what is too old, and frees space when the file system is
// fuller than the high threshold.
func (g *GC) Collect(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Now()
	if err := g.detect(ctx, now); err != nil {
		return err
	}
	if g.cfg.MaxAge > 0 {
		for id, u := range g.seen {
			last := u.lastUsed
			if last.IsZero() {
				last = u.firstDetected
			}
			if !u.used && !u.pinned && now.Sub(last) > g.cfg.MaxAge {
				if err := g.remove(ctx, id); err != nil {
					return err
				}
			}
		}
	}
	if g.cfg.Usage == nil {
		return nil
	}
	capacity, available, err := g.cfg.Usage(ctx)
	if err != nil {
		return err
	}
	if capacity == 0 {
		g.warn("InvalidDiskCapacity", "invalid capacity 0 on image filesystem")
		return errors.New("invalid capacity 0 on image filesystem")
	}
	percent := 100 - int(available*100/capacity)
	if percent < g.cfg.HighPercent {
		return nil
	}
	toFree := int64(capacity)*int64(100-g.cfg.LowPercent)/100 - int64(available)
	freed, err := g.free(ctx, toFree, now)
	if err != nil {
		return err
	}
	if freed < toFree {
		err := fmt.Errorf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). Failed to free sufficient space by deleting unused images (freed %d bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
			percent, amount(capacity), freed)
		g.warn("FreeDiskSpaceFailed", err.Error())
		return err
	}
	return nil
}

// amount is a number of bytes as people read it.
func amount(bytes uint64) string {
	size, unit := float64(bytes), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < 1024 {
			break
		}
		size, unit = size/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}

// CollectAgain is Collect as it is done now and then, if there is anything that it is to
// do. A failure that follows another is an event: the first may come of numbers that are
// not complete yet.
func (g *GC) CollectAgain(ctx context.Context) error {
	if g.cfg.HighPercent >= 100 && g.cfg.MaxAge == 0 {
		return nil
	}
	err := g.Collect(ctx)
	if ctx.Err() != nil {
		return nil
	}
	g.mu.Lock()
	again := g.failed && err != nil
	g.failed = err != nil
	g.mu.Unlock()
	if again {
		g.warn("ImageGCFailed", err.Error())
	}
	return err
}

// DeleteUnused removes every image that nothing uses.
func (g *GC) DeleteUnused(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.cfg.Now()
	if err := g.detect(ctx, now); err != nil {
		return err
	}
	_, err := g.free(ctx, 1<<62, now)
	return err
}

// free removes the images unused for longest first. Caller holds mu.
func (g *GC) free(ctx context.Context, bytes int64, now time.Time) (int64, error) {
	var ids []string
	for id, u := range g.seen {
		if !u.used && !u.pinned && now.Sub(u.firstDetected) >= g.cfg.MinAge {
			ids = append(ids, id)
		}
	}
	sort.Slice(ids, func(i, j int) bool {
		a, b := g.seen[ids[i]], g.seen[ids[j]]
		if !a.lastUsed.Equal(b.lastUsed) {
			return a.lastUsed.Before(b.lastUsed)
		}
		return a.firstDetected.Before(b.firstDetected)
	})
	var freed int64
	var errs []error
	for _, id := range ids {
		if freed >= bytes {
			break
		}
		size := int64(g.seen[id].size)
		if err := g.remove(ctx, id); err != nil {
			errs = append(errs, err)
			continue
		}
		freed += size
	}
	return freed, errors.Join(errs...)
}

func (g *GC) remove(ctx context.Context, id string) error {
	if err := g.cfg.Images.RemoveImage(ctx, &runtimeapi.ImageSpec{Image: id}); err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	delete(g.seen, id)
	return nil
}

func (g *GC) warn(reason, message string) {
	if g.cfg.Recorder != nil && g.cfg.Node != nil {
		g.cfg.Recorder.Event(g.cfg.Node, v1.EventTypeWarning, reason, message)
	}
}
