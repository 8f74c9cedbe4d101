package images_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/critest"
	"skiff/kubelet/images"
)

// What a collection that is done now and then leaves of two unused images, and tells.
func TestCollectAgain(t *testing.T) {
	const full = "Insufficient free disk space on the node's image filesystem (96% of 2.0 GiB used). Failed to free sufficient space by deleting unused images (freed 0 bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
	for _, tc := range []struct {
		name   string
		high   int
		minAge time.Duration
		maxAge time.Duration
		left   int
		events []string
	}{
		{"room enough", 97, 0, 0, 2, nil},
		{"too full, all too young", 85, 24 * time.Hour, 0, 2, []string{"Warning FreeDiskSpaceFailed " + full, "Warning FreeDiskSpaceFailed " + full, "Warning ImageGCFailed " + full}},
		{"never for room, but for age", 100, 0, 2 * time.Minute, 0, nil},
		{"never", 100, 0, 0, 2, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rt, now := critest.New("one:1", "two:1"), time.Now()
			events := record.NewFakeRecorder(10)
			gc, err := images.NewGC(images.GCConfig{
				Runtime: rt, Images: rt, Recorder: events, Node: &v1.Node{}, HighPercent: tc.high, LowPercent: 80, MinAge: tc.minAge, MaxAge: tc.maxAge,
				Usage: func(context.Context) (uint64, uint64, error) { return 2 << 30, 2 << 30 / 20, nil },
				Now:   func() time.Time { return now },
			})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_ = gc.CollectAgain(t.Context()) // what is said of it counts
				now = now.Add(time.Hour)
			}
			list, err := rt.ListImages(t.Context(), &runtimeapi.ImageFilter{})
			if err != nil || len(list) != tc.left {
				t.Errorf("%d images are left (%v), want %d", len(list), err, tc.left)
			}
			close(events.Events)
			var got []string
			for e := range events.Events {
				got = append(got, e)
			}
			if d := cmp.Diff(tc.events, got); d != "" {
				t.Errorf("events (-want +got):\n%s", d)
			}
		})
	}
}
