package imageset

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Programs of Debian's packages redis-server and nginx-light.
const (
	redisFile    = "/usr/bin/redis-server"
	redisCLIFile = "/usr/bin/redis-cli"
	nginxFile    = "/usr/sbin/nginx"
)

// nginxConf serves the page on port 80 and logs where containers do.
const nginxConf = `daemon off;
error_log stderr;
pid /tmp/nginx.pid;
events {}
http {
	access_log /dev/stdout;
	server {
		listen 80;
		root /usr/share/nginx/html;
	}
}
`

// debianLayer has some installed programs at their places, with the shared
// libraries that they load, and further entries. It is nil where a program is
// not installed.
func debianLayer(ctx context.Context, programs []string, more ...entry) (v1.Layer, error) {
	files := make(map[string]bool)
	for _, p := range programs {
		if _, err := os.Stat(p); os.IsNotExist(err) {
			return nil, nil
		}
		libs, err := libraries(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, f := range append(libs, p) {
			files[f] = true
		}
	}
	folders := make(map[string]bool)
	var entries []entry
	for _, f := range slices.Sorted(maps.Keys(files)) {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(f, "/")
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
		entries = append(entries, file(name, 0o755, b))
	}
	for _, e := range more {
		for dir := path.Dir(strings.TrimSuffix(e.header.Name, "/")); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	var all []entry
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		all = append(all, folder(dir, 0o755))
	}
	return layer(append(append(all, entries...), more...)...)
}

// libraries are the files that the loader maps for a program.
func libraries(ctx context.Context, program string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("list the libraries of %s: %w", program, err)
	}
	var libs []string
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		line := lines.Text()
		if _, to, ok := strings.Cut(line, "=>"); ok {
			line = to
		}
		if f, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(f, "/") {
			libs = append(libs, f)
		}
	}
	return libs, nil
}
