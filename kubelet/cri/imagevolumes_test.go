package cri_test

import (
	"archive/tar"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What an image declares as volumes is there and can be written, with what the image has
// there; what the pod mounts goes before it.
//
// Covers: node.containers
func TestVolumesOfTheImage(t *testing.T) {
	n := newNode(t)
	built, err := buildTools()
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(probeImage(t, built.probe), layer(t,
		file{name: "data/", mode: 0o750, kind: tar.TypeDir},
		file{name: "data/f", mode: 0o644, body: "of the image\n"},
		file{name: "real/", mode: 0o755, kind: tar.TypeDir},
		file{name: "link", kind: tar.TypeSymlink, link: "/real"},
		file{name: "out", kind: tar.TypeSymlink, link: "/../../../.."},
	))
	if err != nil {
		t.Fatal(err)
	}
	image, err = mutate.Config(image, v1.Config{Entrypoint: []string{"/probe"}, Volumes: map[string]struct{}{
		"/data": {}, "/missing/below": {}, "/link/made": {}, "/out/skiff-volume": {}, "/given": {}, "/": {},
	}})
	if err != nil {
		t.Fatal(err)
	}
	n.push("library/probe:1", image)
	n.pull()
	given := t.TempDir()
	sb, scfg := n.pod("volumes")
	id := n.run(sb, scfg, "c", []string{"stubborn"}, func(c *runtimeapi.ContainerConfig) {
		c.Linux.SecurityContext.ReadonlyRootfs = true
		c.Mounts = []*runtimeapi.Mount{{HostPath: given, ContainerPath: "/given/", Readonly: true}}
	})
	for _, tc := range []struct {
		name string
		cmd  []string
		want string
		fail bool
	}{
		{"what the image has", []string{"cat", "/data/f"}, "of the image\n", false},
		{"written", []string{"write", "/data/f", "new"}, "", false},
		{"and read again", []string{"cat", "/data/f"}, "new", false},
		{"one that no layer has", []string{"write", "/missing/below/f", "x"}, "", false},
		{"one behind a link", []string{"write", "/real/made/f", "x"}, "", false},
		{"a link that leads out stays inside", []string{"write", "/skiff-volume/f", "x"}, "", false},
		{"the pod's own", []string{"write", "/given/f", "x"}, "", true},
		{"the root", []string{"write", "/f", "x"}, "", true},
		{"what is above one", []string{"write", "/missing/f", "x"}, "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, errOut, err := n.ExecSync(t.Context(), id, append([]string{"/probe"}, tc.cmd...), 10*time.Second)
			if (err != nil) != tc.fail || string(out) != tc.want && !tc.fail {
				t.Errorf("got %q, %q, %v; want %q, to fail: %v", out, errOut, err, tc.want, tc.fail)
			}
		})
	}
}
