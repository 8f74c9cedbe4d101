package imageset

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// criTools is where the images live that critest asks for by name.
const criTools = "k8s-staging-cri-tools/"

// hostNetworkPort is where critest looks for the web server of a pod that has the
// node's network.
const hostNetworkPort = "12003"

func critestPrefixes() []string {
	return []string{"e2e-test-images", "pause", strings.TrimSuffix(criTools, "/")}
}

// CritestRegistries are the registries that critest's images are named by.
func CritestRegistries() []string { return []string{"registry.k8s.io", "k8s.gcr.io", "gcr.io"} }

// buildCritest makes stand-ins for the images of critest: busybox in place of
// busybox, Debian's nginx in place of nginx. The one that it names by its digest
// cannot be had. None is made where the packages are missing.
func buildCritest(ctx context.Context) ([]built, error) {
	shell, err := busyboxLayer(ctx, hardLink)
	if err != nil || shell == nil {
		return nil, err
	}
	// Debian's busybox is without these.
	more, err := debianLayer(ctx, []string{"/usr/bin/pgrep", "/usr/bin/ipcs"})
	if err != nil {
		return nil, err
	}
	base, err := layer(
		folder("tmp", 0o1777), folder("etc", 0o755), folder("root", 0o700), folder("home", 0o755),
		file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000::/home:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n")),
		file("etc/group", 0o644, []byte("root:x:0:\nwww-data:x:33:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\nnogroup:x:65534:\n")),
	)
	if err != nil {
		return nil, err
	}
	var out []built
	add := func(c v1.Config, repository string, tags []string, layers ...v1.Layer) {
		if err != nil {
			return
		}
		var i v1.Image
		if i, err = compose(c, layers); err != nil {
			err = fmt.Errorf("image %s: %w", repository, err)
		}
		out = append(out, built{repository: repository, tags: tags, image: i})
	}
	plain := v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}
	as := func(user string) v1.Config {
		c := plain
		c.User = user
		return c
	}
	add(plain, "e2e-test-images/busybox", []string{"1.29-2"}, base, shell, more)
	add(v1.Config{Entrypoint: []string{"sleep", "infinity"}, Env: plain.Env}, "pause", []string{"3.9"}, base, shell)
	for name, user := range map[string]string{
		"test-image-user-uid": "1002", "test-image-user-username": "www-data", "test-image-user-uid-group": "1003:users",
		"test-image-user-username-group": "www-data:100", "test-image-predefined-group": "1000",
	} {
		add(as(user), criTools+name, []string{"latest"}, base, shell)
	}
	for name, tags := range map[string][]string{
		"test-image-latest": {"latest"}, "test-image-tag": {"test", "all"}, "test-image-tags": {"1", "2", "3"},
		"test-image-1": {"latest"}, "test-image-2": {"latest"}, "test-image-3": {"latest"},
	} {
		if err != nil {
			break
		}
		var mark v1.Layer
		if mark, err = layer(file(name, 0o644, []byte(name))); err == nil {
			add(plain, criTools+name, tags, base, shell, mark)
		}
	}
	if err != nil {
		return nil, err
	}
	// It is run by its owner, and tells whether it could be more than its caller.
	binary, err := compile(ctx, "skiff/testdata/images/nonewprivs")
	if err != nil {
		return nil, err
	}
	escalator, err := layer(file("nnp", 0o4755, binary))
	if err != nil {
		return nil, err
	}
	add(v1.Config{Entrypoint: []string{"/nnp"}}, "e2e-test-images/nonewprivs", []string{"1.3"}, base, escalator)
	for repository, port := range map[string]string{"e2e-test-images/nginx": "80", criTools + "hostnet-nginx-" + runtime.GOARCH: hostNetworkPort} {
		conf := strings.NewReplacer("listen 80;", "listen "+port+";", "/tmp/nginx.pid", "/var/run/nginx.pid").Replace(nginxConf)
		web, err := debianLayer(ctx, []string{nginxFile}, folder("var/lib/nginx", 0o755), folder("var/log/nginx", 0o755), folder("var/run", 0o755),
			file("etc/nginx/nginx.conf", 0o644, []byte(conf)), file("usr/share/nginx/html/index.html", 0o644, []byte("Welcome to nginx!\n")))
		if err != nil || web == nil {
			return out, err
		}
		add(v1.Config{Cmd: []string{"nginx"}, Env: plain.Env, StopSignal: "SIGQUIT"}, repository, []string{"1.14-2", "latest"}, base, shell, web)
		if port == "80" {
			// critest looks for the server's name in its log.
			add(v1.Config{Cmd: []string{"sh", "-c", "echo httpd; exec nginx"}, Env: plain.Env}, "e2e-test-images/httpd", []string{"2.4.39-4"}, base, shell, web)
		}
	}
	return out, err
}
