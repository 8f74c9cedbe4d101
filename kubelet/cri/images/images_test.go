package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

type entry struct {
	tar.Header
	body string
}

func makeLayer(t testing.TB, entries ...entry) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		h.Size, h.ModTime = int64(len(e.body)), time.Unix(1700000000, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func makeImage(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func file(name, body string) entry { return entry{tar.Header{Name: name}, body} }

type fixture struct {
	store    *Store
	registry string
	gets     *atomic.Int64
	broken   *atomic.Int64 // answers to cut short
	// fault answers in the registry's place where it returns true.
	fault *atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func newFixture(t testing.TB) fixture {
	t.Helper()
	f := fixture{gets: new(atomic.Int64), broken: new(atomic.Int64), fault: new(atomic.Pointer[func(http.ResponseWriter, *http.Request) bool])}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			f.gets.Add(1)
			if f.broken.Add(-1) >= 0 {
				w.Header().Set("Content-Length", "1000000")
				w.Write([]byte("x"))
				panic(http.ErrAbortHandler)
			}
		}
		if fault := f.fault.Load(); fault != nil && (*fault)(w, r) {
			return
		}
		handler.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	f.registry = strings.TrimPrefix(server.URL, "http://")
	dir := t.TempDir()
	mirrors := "mirrors:\n  '*':\n    endpoint: ['" + server.URL + "']\n    rewrite:\n      '^library/(.*)': 'mirrored/$1'\n"
	if err := os.WriteFile(filepath.Join(dir, "registries.yaml"), []byte(mirrors), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.store, err = New(Config{Root: filepath.Join(dir, "images"), Registries: filepath.Join(dir, "registries.yaml"), RetryPause: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f fixture) push(t testing.TB, repo string, image v1.Image) {
	t.Helper()
	r, err := name.ParseReference(f.registry + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, image); err != nil {
		t.Fatal(err)
	}
}

// Covers: node.images
func TestPull(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	image := makeImage(t,
		makeLayer(t, entry{tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o1777}, ""}, file("dir/a", "a"), file("gone", "x"), entry{tar.Header{Name: "suid", Mode: 0o4755}, "s"}),
		makeLayer(t, file("dir/.wh.a", ""), file(".wh.gone", ""), file("dir/b", "b"),
			entry{tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "dir/b"}, ""},
			entry{tar.Header{Name: "abs", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, ""},
			entry{tar.Header{Name: "opaque/", Typeflag: tar.TypeDir}, ""}, file("opaque/.wh..wh..opq", "")),
	)
	f.push(t, "mirrored/app:1", image)
	got, err := f.store.Pull(t.Context(), "app:1", Auth{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := image.Digest()
	if diff := cmp.Diff([]string{"docker.io/library/app:1"}, got.Tags); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"docker.io/library/app@" + digest.String()}, got.Digests); diff != "" {
		t.Error(diff)
	}
	names := f.store.LayerNames(got)
	if len(names) != 2 {
		t.Fatalf("layers: %v", names)
	}
	top, base := filepath.Join(f.store.LayerRoot(), names[0]), filepath.Join(f.store.LayerRoot(), names[1])
	for _, w := range []string{"gone", "dir/a"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(top, w), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
			t.Errorf("whiteout of %s: %o %d, %v", w, st.Mode, st.Rdev, err)
		}
	}
	buf := make([]byte, 8)
	if n, err := unix.Getxattr(filepath.Join(top, "opaque"), "trusted.overlay.opaque", buf); err != nil || string(buf[:n]) != "y" {
		t.Errorf("opaque folder: %q, %v", buf[:max(n, 0)], err)
	}
	if st, err := os.Stat(filepath.Join(base, "suid")); err != nil || st.Mode()&os.ModeSetuid == 0 {
		t.Errorf("set-id bit: %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Join(top, "dir")); err != nil || st.Mode().Perm() != 0o777 || st.Mode()&os.ModeSticky == 0 {
		t.Errorf("folder that only the lower layer describes: %v, %v", st.Mode(), err)
	}
	a, _ := os.Stat(filepath.Join(top, "hard"))
	b, _ := os.Stat(filepath.Join(top, "dir/b"))
	if !os.SameFile(a, b) {
		t.Error("hard link is another file")
	}
	before := f.gets.Load()
	if _, err := f.store.Pull(t.Context(), "docker.io/library/app@"+digest.String(), Auth{}, nil); err != nil {
		t.Fatal(err)
	}
	if now := f.gets.Load(); now != before {
		t.Errorf("a second pull fetched %d blobs", now-before)
	}
	again, err := New(f.store.cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"app:1", got.ID, strings.TrimPrefix(got.ID, "sha256:"), "app@" + digest.String()} {
		if found, err := again.Get(ref); err != nil || found.ID != got.ID {
			t.Errorf("Get(%q) = %v, %v", ref, found, err)
		}
	}
	if err := again.Remove("app:1"); err != nil {
		t.Fatal(err)
	}
	if err := again.Sweep(got.Layers[:1]); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(again.LayerRoot()); len(left) != 1 {
		t.Errorf("layers after the sweep: %v", left)
	}
	if left, _ := os.ReadDir(filepath.Join(again.cfg.Root, "blobs/sha256")); len(left) != 0 {
		t.Errorf("blobs after the sweep: %v", left)
	}
}

// Covers: node.images-hostile
func TestPullFailures(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	big := strings.Repeat("0", 1<<20)
	for _, tc := range []struct {
		name  string
		image v1.Image
		limit int64
		want  string
		is    error
	}{
		{name: "name that leaves the layer", image: makeImage(t, makeLayer(t, file("../evil", "x"))), want: "leaves the layer", is: ErrInvalid},
		{name: "write through a link", image: makeImage(t, makeLayer(t, entry{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}, ""}, file("l/evil", "x"))), want: "not a folder", is: ErrInvalid},
		{name: "hard link to the outside", image: makeImage(t, makeLayer(t, entry{tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../../../etc/passwd"}, ""})), want: "leaves the layer", is: ErrInvalid},
		{name: "too large", image: makeImage(t, makeLayer(t, file("big", big))), limit: 1 << 19, want: "larger than allowed"},
		{name: "other architecture", image: otherArch(t), want: "no match for platform", is: ErrNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if f.store.cfg.MaxLayerSize = 64 << 30; tc.limit > 0 {
				f.store.cfg.MaxLayerSize = tc.limit
			}
			f.push(t, "mirrored/bad:1", tc.image)
			_, err := f.store.Pull(t.Context(), "bad:1", Auth{}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			left, _ := os.ReadDir(f.store.LayerRoot())
			if len(left) != 0 {
				t.Errorf("half a layer is left: %v", left)
			}
		})
	}
	f.store.cfg.MaxLayerSize = 64 << 30
	if _, err := f.store.Pull(t.Context(), f.registry+"/none:1", Auth{}, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing image: %v", err)
	}
	if _, err := f.store.Pull(t.Context(), "UPPER/case", Auth{}, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("bad name: %v", err)
	}
}

func otherArch(t *testing.T) v1.Image {
	t.Helper()
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "s390x"})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestPullGoesOnAfterABreak(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	f.push(t, "mirrored/app:2", makeImage(t, makeLayer(t, file("f", "content"))))
	f.broken.Store(1)
	if _, err := f.store.Pull(t.Context(), "app:2", Auth{}, nil); err == nil {
		return // tried again at once
	}
	if _, err := f.store.Pull(t.Context(), "app:2", Auth{}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestImportExport(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	f.push(t, "mirrored/app:3", makeImage(t, makeLayer(t, file("f", "content"))))
	image, err := f.store.Pull(t.Context(), "app:3", Auth{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := f.store.Export(&archive, "app:3"); err != nil {
		t.Fatal(err)
	}
	other, err := New(Config{Root: filepath.Join(t.TempDir(), "images")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := other.Import(t.Context(), bytes.NewReader(archive.Bytes()), ImportOptions{Pinned: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].ID != image.ID || !got[0].Pinned || !cmp.Equal(got[0].Tags, image.Tags) {
		t.Errorf("OCI archive: %+v", got)
	}
	var docker bytes.Buffer
	tag, err := name.NewTag("made/here:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.Write(tag, makeImage(t, makeLayer(t, file("g", "more"))), &docker); err != nil {
		t.Fatal(err)
	}
	if got, err = other.Import(t.Context(), &docker, ImportOptions{}); err != nil || len(got) != 1 || got[0].Tags[0] != "docker.io/made/here:1" {
		t.Errorf("docker archive: %+v, %v", got, err)
	}
}

// An archive with two tags of one image, and an image that had another tag before.
func TestNames(t *testing.T) {
	got := Names([]*Image{{ID: "a", Tags: []string{"x:old", "x:1"}}, {ID: "a", Tags: []string{"x:old", "x:1", "x:2"}}, {ID: "b", Digests: []string{"y@d"}}, {ID: "c"}})
	if d := cmp.Diff([]string{"x:old", "x:1", "x:2", "y@d", "c"}, got); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// Covers: node.images
func TestEndpoints(t *testing.T) {
	r := &Registries{
		Mirrors: map[string]Mirror{
			"docker.io": {Endpoints: []string{"http://mirror:5000", "https://second/v2/pre"}, Rewrites: map[string]string{"^library/(.*)": "hub/$1"}},
			"*":         {Endpoints: []string{"https://all"}},
		},
		Configs: map[string]RegistryConfig{"mirror:5000": {Auth: &RegistryAuth{Username: "u"}}},
	}
	type place struct{ URL, Repo string }
	for _, tc := range []struct {
		name, host, repo string
		want             []place
	}{
		{"with mirrors", "docker.io", "library/x", []place{{"http://mirror:5000", "hub/x"}, {"https://second/v2/pre", "hub/x"}, {"https://registry-1.docker.io", "library/x"}}},
		{"by the star", "quay.io", "a/b", []place{{"https://all", "a/b"}, {"https://quay.io", "a/b"}}},
		{"loopback speaks plain HTTP", "localhost:5000", "a", []place{{"https://all", "a"}, {"http://localhost:5000", "a"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []place
			for _, e := range r.endpoints(tc.host, tc.repo) {
				got = append(got, place{e.scheme + "://" + e.host + e.prefix, e.repository})
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
