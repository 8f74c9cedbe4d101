package images

import (
	"archive/tar"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/sys/unix"
)

// Covers: node.images-hostile
func TestRegistryThatFailsOrLies(t *testing.T) {
	needRoot(t)
	const body = "the content of a layer"
	// only lets the registry answer all but one blob, or the n first requests for it.
	only := func(n int64, answer http.HandlerFunc) func(blob string) func(http.ResponseWriter, *http.Request) bool {
		return func(blob string) func(http.ResponseWriter, *http.Request) bool {
			var asked atomic.Int64
			return func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/blobs/"+blob) || n > 0 && asked.Add(1) > n {
					return false
				}
				answer(w, r)
				return true
			}
		}
	}
	code := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	silent := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for _, tc := range []struct {
		name  string
		fault func(blob string) func(http.ResponseWriter, *http.Request) bool
		want  string // of the error; empty where the pull succeeds
		is    error
	}{
		{"too many requests, twice", only(2, code(http.StatusTooManyRequests)), "", nil},
		{"broken, three times", only(3, code(http.StatusInternalServerError)), "", nil},
		{"broken for good", only(0, code(http.StatusInternalServerError)), "500 Internal Server Error", nil},
		{"too many requests for good", only(0, code(http.StatusTooManyRequests)), "429 Too Many Requests", nil},
		{"gone", only(0, code(http.StatusNotFound)), "404 Not Found", ErrNotFound},
		{"not for us", only(0, code(http.StatusForbidden)), "403 Forbidden", ErrUnauthorized},
		{"longer than it says", only(0, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) }), "longer than the", ErrInvalid},
		{"shorter than it says", only(0, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("short")) }), "it ends after 5 of the", ErrInvalid},
		{"empty", only(0, func(w http.ResponseWriter, _ *http.Request) { w.Write(nil) }), "it ends after 0 of the", ErrInvalid},
		{"silent once", only(1, silent), "", nil},
		{"silent for good", only(0, silent), "no data for 200ms", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.store.cfg.Stall = 200 * time.Millisecond
			image := makeImage(t, makeLayer(t, file("f", body)))
			f.push(t, "mirrored/app:1", image)
			fault := tc.fault(layerDigest(t, image))
			f.fault.Store(&fault)
			_, err := f.store.Pull(t.Context(), f.registry+"/mirrored/app:1", Auth{}, nil)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("the pull failed: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if left, _ := os.ReadDir(f.store.LayerRoot()); tc.want != "" && len(left) != 0 {
				t.Errorf("half a layer is left: %v", left)
			}
		})
	}
}

func layerDigest(t *testing.T, image v1.Image) string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	d, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// Covers: node.images-hostile
func TestOtherContentIsRefused(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	image := makeImage(t, makeLayer(t, file("f", "what was meant")))
	f.push(t, "mirrored/app:1", image)
	digest := layerDigest(t, image)
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	fault := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/blobs/"+digest) {
			return false
		}
		w.Write(make([]byte, manifest.Layers[0].Size))
		return true
	}
	f.fault.Store(&fault)
	_, err = f.store.Pull(t.Context(), f.registry+"/mirrored/app:1", Auth{}, nil)
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "its content has the digest") {
		t.Errorf("other bytes than the digest's: %v", err)
	}
	// The next try begins anew: nothing of the lie is kept.
	f.fault.Store(nil)
	if _, err := f.store.Pull(t.Context(), f.registry+"/mirrored/app:1", Auth{}, nil); err != nil {
		t.Errorf("after the lie: %v", err)
	}

	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64)
	lying, err := mutate.ConfigFile(image, config)
	if err != nil {
		t.Fatal(err)
	}
	f.push(t, "mirrored/lying:1", lying)
	if _, err := f.store.Pull(t.Context(), f.registry+"/mirrored/lying:1", Auth{}, nil); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "uncompressed content has the digest") {
		t.Errorf("other content than the configuration's: %v", err)
	}
}

// A device in a layer is a node that the container's device rules keep shut. On
// the node itself nobody but root reaches it, nor a program that runs as its owner.
// Covers: node.images-hostile
func TestDevicesOfLayersAreForRootAlone(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	f.push(t, "mirrored/devices:1", makeImage(t, makeLayer(t,
		entry{tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8, Devminor: 0, Mode: 0o666}, ""},
		entry{tar.Header{Name: "sudo", Mode: 0o4755}, "program"})))
	_, err := f.store.Pull(t.Context(), f.registry+"/mirrored/devices:1", Auth{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	err = filepath.WalkDir(f.store.LayerRoot(), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "disk" {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("the device: %v, %v", found, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(found[0], &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != unix.Mkdev(8, 0) {
		t.Errorf("the device is %o, %d: %v", st.Mode, st.Rdev, err)
	}
	for _, dir := range []string{f.store.cfg.Root, f.store.LayerRoot()} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want mode 0700", dir, info.Mode(), err)
		}
	}
}

// A pull on a full disk says so, at once and without the other registries' words,
// leaves no half a blob that takes room, and works when there is room.
func TestPullOnFullDisk(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	body := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(body)
	f.push(t, "mirrored/app:1", makeImage(t, makeLayer(t, file("f", string(body)))))
	root := f.store.cfg.Root
	if err := unix.Mount("none", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	for _, dir := range []string{"ingest", "layers", "blobs/sha256"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	_, err := f.store.Pull(t.Context(), "app:1", Auth{}, nil)
	if !errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), "mirrors:") {
		t.Errorf("got %v, want that there is no space left, and nothing else", err)
	}
	if left, err := os.ReadDir(filepath.Join(root, "ingest")); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
	if err := unix.Mount("none", root, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Pull(t.Context(), "app:1", Auth{}, nil); err != nil {
		t.Error(err)
	}
}

// A registry that cannot go on where an earlier pull broke off is asked for the
// whole blob.
func TestPullWithoutRanges(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	image := makeImage(t, makeLayer(t, file("f", "content")))
	f.push(t, "mirrored/app:1", image)
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.store.cfg.Root, "ingest", digest.Hex), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := 0
	fault := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "" {
			return false
		}
		refused++
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return true
	}
	f.fault.Store(&fault)
	if _, err := f.store.Pull(t.Context(), "app:1", Auth{}, nil); err != nil || refused == 0 {
		t.Errorf("%d ranges were refused, then %v", refused, err)
	}
}
