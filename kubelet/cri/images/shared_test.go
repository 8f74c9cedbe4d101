package images

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Covers: node.images
func TestPullEndsWithItsLastCaller(t *testing.T) {
	for _, tc := range []struct {
		name           string
		callers, leave int
		ends           bool
	}{
		{"the only one leaves", 1, 1, true},
		{"one of two leaves", 2, 1, false},
		{"both leave", 2, 2, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f flights
				want, finish := &Image{ID: "i"}, make(chan struct{})
				var started atomic.Int64
				ended := false
				pull := func(ctx context.Context) (*Image, error) {
					started.Add(1)
					select {
					case <-finish:
						return want, nil
					case <-ctx.Done():
						ended = true
						return nil, ctx.Err()
					}
				}
				leave := make([]context.CancelFunc, tc.callers)
				images, errs := make([]*Image, tc.callers), make([]error, tc.callers)
				for i := range tc.callers {
					var ctx context.Context
					ctx, leave[i] = context.WithCancel(t.Context())
					defer leave[i]()
					go func() { images[i], errs[i] = f.do(ctx, "key", pull) }()
					synctest.Wait()
				}
				for i := range tc.leave {
					leave[i]()
				}
				synctest.Wait()
				if ended != tc.ends {
					t.Errorf("the pull has ended: %v, want %v", ended, tc.ends)
				}
				close(finish)
				synctest.Wait()
				for i := range tc.callers {
					switch left := i < tc.leave; {
					case left && !errors.Is(errs[i], context.Canceled):
						t.Errorf("caller %d left and got %v, %v", i, images[i], errs[i])
					case !left && (images[i] != want || errs[i] != nil):
						t.Errorf("caller %d stayed and got %v, %v", i, images[i], errs[i])
					}
				}
				if n := started.Load(); n != 1 {
					t.Errorf("%d pulls, want one that is shared", n)
				}
			})
		})
	}
}

// Covers: node.images
func TestPullAfterOneThatWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		slow := make(chan struct{})
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			_, _ = f.do(ctx, "key", func(ctx context.Context) (*Image, error) {
				<-ctx.Done()
				<-slow // it takes its time to end
				return nil, ctx.Err()
			})
		}()
		synctest.Wait()
		leave()
		synctest.Wait()
		want := &Image{ID: "i"}
		var got *Image
		var err error
		go func() {
			got, err = f.do(t.Context(), "key", func(context.Context) (*Image, error) { return want, nil })
		}()
		synctest.Wait()
		if got != nil || err != nil {
			t.Fatalf("a second pull did not wait for the end of the first: %v, %v", got, err)
		}
		close(slow)
		synctest.Wait()
		if got != want || err != nil {
			t.Errorf("got %v, %v; want a pull of its own", got, err)
		}
	})
}

// Covers: node.images-hostile
func TestStalledPullThatWasLeft(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	image := makeImage(t, makeLayer(t, file("f", "the content of a layer")))
	f.push(t, "mirrored/app:1", image)
	f.push(t, "mirrored/same:1", image)
	blob := "/blobs/" + layerDigest(t, image)
	stalled, hungUp := make(chan struct{}), make(chan struct{})
	var asked atomic.Int64
	fault := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, blob) || asked.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		close(stalled)
		<-r.Context().Done()
		close(hungUp)
		return true
	}
	f.fault.Store(&fault)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	first := make(chan error, 1)
	go func() {
		_, err := f.store.Pull(ctx, f.registry+"/mirrored/app:1", Auth{}, nil)
		first <- err
	}()
	<-stalled
	second := make(chan error, 1)
	go func() {
		_, err := f.store.Pull(t.Context(), f.registry+"/mirrored/same:1", Auth{}, nil)
		second <- err
	}()
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left got %v", err)
	}
	<-hungUp
	if err := <-second; err != nil {
		t.Errorf("a pull of the same layer failed with the other's end: %v", err)
	}
}
