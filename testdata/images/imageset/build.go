package imageset

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// busyboxFile is where Debian's busybox-static has its program.
const busyboxFile = "/bin/busybox"

// built is an image with the names it is served under.
type built struct {
	repository string
	tags       []string
	image      v1.Image
}

// Names lists what Serve serves. busybox, redis and nginx:1.22 are there where
// their Debian packages are installed; the other versions of nginx are the probe,
// for manifests that name them.
func Names() []string {
	return []string{"probe:latest", "busybox:latest", "nginx:latest", "nginx:1.26", "nginx:1.27", "nginx:1.22", "redis:latest", "csidriver:latest"}
}

// build makes every image but the CSI driver. The same sources give the same
// digests: times are zero and the binary is built with -trimpath.
func build(ctx context.Context) ([]built, error) {
	binary, err := compile(ctx, "skiff/testdata/images/probe")
	if err != nil {
		return nil, err
	}
	base, err := baseLayer()
	if err != nil {
		return nil, err
	}
	program, err := layer(file("probe", 0o755, binary))
	if err != nil {
		return nil, err
	}
	server, err := layer(folder("usr", 0o755), folder("usr/sbin", 0o755), file("usr/sbin/nginx", 0o755, binary))
	if err != nil {
		return nil, err
	}
	shell, err := busyboxLayer(ctx, link)
	if err != nil {
		return nil, err
	}
	var out []built
	add := func(repository string, tags []string, c v1.Config, layers ...v1.Layer) error {
		i, err := compose(c, layers)
		if err != nil {
			return fmt.Errorf("image %s: %w", repository, err)
		}
		out = append(out, built{repository: "library/" + repository, tags: tags, image: i})
		return nil
	}
	err = add("probe", []string{"latest", "1"}, v1.Config{
		Entrypoint: []string{"/probe"}, Cmd: []string{"serve"}, Env: []string{"PATH=/bin:/usr/bin:/"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8081/udp": {}, "8082/tcp": {}},
	}, base, program)
	for _, version := range []string{"1.26", "1.27"} {
		tags := []string{version}
		if version == "1.27" {
			tags = append(tags, "latest", "alpine")
		}
		if err == nil {
			err = add("nginx", tags, v1.Config{
				Cmd: []string{"nginx", "-g", "daemon off;"}, Env: []string{"PATH=/bin:/usr/sbin", "NGINX_VERSION=" + version},
				ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGQUIT",
			}, base, shell, server)
		}
	}
	if err == nil && shell != nil {
		err = add("busybox", []string{"latest", "1.35", "1.36"}, v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}, base, shell)
	}
	if err != nil {
		return nil, err
	}
	redis, err := debianLayer(ctx, []string{redisFile, redisCLIFile})
	if err == nil && redis != nil {
		err = add("redis", []string{"latest", "7"}, v1.Config{
			Cmd: []string{"redis-server", "--protected-mode", "no"}, Env: []string{"PATH=/bin:/usr/bin"}, WorkingDir: "/data",
			ExposedPorts: map[string]struct{}{"6379/tcp": {}},
		}, base, shell, redis)
	}
	if err != nil {
		return nil, err
	}
	web, err := debianLayer(ctx, []string{nginxFile}, folder("var/lib/nginx", 0o755), folder("var/log/nginx", 0o755),
		file("etc/nginx/nginx.conf", 0o644, []byte(nginxConf)), file("usr/share/nginx/html/index.html", 0o644, []byte("Welcome to Debian's nginx!\n")))
	if err == nil && web != nil {
		err = add("nginx", []string{"1.22", "debian"}, v1.Config{
			Cmd: []string{"nginx"}, Env: []string{"PATH=/bin:/usr/bin:/usr/sbin"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGQUIT",
		}, base, shell, web)
	}
	return out, err
}

// csiDriver is the repository of the test CSI driver.
const csiDriver = "library/csidriver"

// buildCSIDriver makes the image of the test CSI driver, which takes longer than
// all others, and few tests want.
func buildCSIDriver(ctx context.Context) (built, error) {
	binary, err := compile(ctx, "skiff/testdata/csidriver")
	if err != nil {
		return built{}, err
	}
	base, err := baseLayer()
	if err != nil {
		return built{}, err
	}
	program, err := layer(file("csidriver", 0o755, binary))
	if err != nil {
		return built{}, err
	}
	i, err := compose(v1.Config{Entrypoint: []string{"/csidriver"}}, []v1.Layer{base, program})
	return built{repository: csiDriver, tags: []string{"latest"}, image: i}, err
}

// baseLayer has what every image wants.
func baseLayer() (v1.Layer, error) {
	return layer(
		folder("tmp", 0o1777), folder("etc", 0o755), folder("data", 0o777),
		file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/probe\nnobody:x:65534:65534:nobody:/:/probe\n")),
		file("etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n")),
	)
}

// compile builds a program, static.
func compile(ctx context.Context, program string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w: %s", program, err, b)
	}
	return os.ReadFile(out)
}

// busyboxLayer is Debian's static busybox with a link of some kind for each of
// its applets, or nil where the package is missing.
func busyboxLayer(ctx context.Context, link func(name, target string) entry) (v1.Layer, error) {
	binary, err := os.ReadFile(busyboxFile)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := exec.CommandContext(ctx, busyboxFile, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	entries := []entry{folder("bin", 0o755), file("bin/busybox", 0o755, binary)}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			entries = append(entries, link("bin/"+applet, "busybox"))
		}
	}
	return layer(entries...)
}

// compose makes an image of those layers that are there.
func compose(c v1.Config, layers []v1.Layer) (v1.Image, error) {
	i, err := mutate.AppendLayers(empty.Image, slices.DeleteFunc(slices.Clone(layers), func(l v1.Layer) bool { return l == nil })...)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(i, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, Config: c,
		RootFS: rootFS(i),
	})
}

func rootFS(i v1.Image) v1.RootFS {
	f, err := i.ConfigFile()
	if err != nil {
		return v1.RootFS{Type: "layers"}
	}
	return f.RootFS
}

// entry is one name in a layer.
type entry struct {
	header tar.Header
	body   []byte
}

func folder(name string, mode int64) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

func file(name string, mode int64, body []byte) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body))}, body: body}
}

func link(name, target string) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

// hardLink is another name of a file in the same folder.
func hardLink(name, target string) entry {
	return entry{header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: path.Join(path.Dir(name), target), Mode: 0o755}}
}

// layer packs entries as a gzip-compressed layer.
func layer(entries ...entry) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.header.ModTime = time.Unix(0, 0)
		if err := w.WriteHeader(&e.header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	// Tests start more often than they pull.
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }, tarball.WithCompressionLevel(gzip.BestSpeed))
}
