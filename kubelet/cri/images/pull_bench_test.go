package images

import (
	"archive/tar"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// BenchmarkPull measures a pull of an image of five layers of 20 MB each, and beside it
// what a user would do without a runtime: download the same layers from the same
// registry, and have tar unpack each. They take turns. Run it with -benchtime 10x as root.
func BenchmarkPull(b *testing.B) {
	needRoot(b)
	f := newFixture(b)
	var layers []v1.Layer
	for i := range 5 {
		layers = append(layers, randomLayer(b, uint64(i)))
	}
	f.push(b, "mirrored/large:1", makeImage(b, layers...))
	var pulls, plain time.Duration
	for range b.N {
		begin := time.Now()
		image, err := f.store.Pull(b.Context(), "large:1", Auth{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		pulls += time.Since(begin)
		if err := f.store.Remove(image.ID); err != nil {
			b.Fatal(err)
		}
		if err := f.store.Sweep(nil); err != nil {
			b.Fatal(err)
		}

		dir := b.TempDir()
		begin = time.Now()
		for i, l := range layers {
			if err := downloadAndUntar(filepath.Join(dir, fmt.Sprint(i)), f.registry, l); err != nil {
				b.Fatal(err)
			}
		}
		plain += time.Since(begin)
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(pulls.Milliseconds())/float64(b.N), "pull-ms")
	b.ReportMetric(float64(plain.Milliseconds())/float64(b.N), "plain-ms")
	b.ReportMetric(float64(pulls)/float64(plain), "times")
	b.ReportMetric(0, "ns/op")
}

// randomLayer has 1200 files that compress little, 20 MB in all.
func randomLayer(t testing.TB, seed uint64) v1.Layer {
	source := rand.NewChaCha8([32]byte{byte(seed)})
	var entries []entry
	for i := range 1200 {
		body := make([]byte, 17<<10)
		source.Read(body)
		entries = append(entries, entry{tar.Header{Name: fmt.Sprintf("l%d/%d/%d", seed, i/40, i)}, string(body)})
	}
	return makeLayer(t, entries...)
}

func downloadAndUntar(dir, registry string, l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	resp, err := http.Get("http://" + registry + "/v2/mirrored/large/blobs/" + digest.String())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	file, err := os.Create(dir + ".tar.gz")
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.Copy(file, resp.Body); err != nil {
		return err
	}
	if out, err := exec.Command("tar", "-xzf", file.Name(), "-C", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s", err, out)
	}
	return nil
}
