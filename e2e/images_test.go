package e2e

import (
	"path/filepath"
	"strings"
)

// imagesCommand takes an image out of a node and into it again, and runs it
// without a registry.
//
// Covers: node.images-command
func imagesCommand(s *space) {
	archive := filepath.Join(s.t.TempDir(), "image.tar")
	s.skiff(s.t, "images", "pull", "--root", s.Root, "nginx:1.27")
	s.skiff(s.t, "images", "export", "--root", s.Root, archive, "nginx:1.27")
	s.skiff(s.t, "images", "rm", "--root", s.Root, "nginx:1.27")
	if out := s.skiff(s.t, "images", "ls", "--root", s.Root); strings.Contains(out, "nginx:1.27") {
		s.t.Errorf("the removed image is listed:\n%s", out)
	}
	if out := s.skiff(s.t, "images", "import", "--root", s.Root, archive); !strings.Contains(out, "docker.io/library/nginx:1.27") {
		s.t.Errorf("import says %q, want the image's name", out)
	}
	if out := s.skiff(s.t, "images", "ls", "--root", s.Root); !strings.Contains(out, "nginx:1.27") || !strings.Contains(out, "true") {
		s.t.Errorf("the imported image is not listed as pinned:\n%s", out)
	}
	first := s.field("nodes", ".items[?(@.metadata.labels.node-role\\.kubernetes\\.io/control-plane)].metadata.name")
	if first == "" {
		first = strings.Fields(s.field("nodes", ".items[*].metadata.name"))[0]
	}
	s.apply(strings.NewReplacer("image: probe", "image: nginx:1.27\n      imagePullPolicy: Never", "spec:", "spec:\n  nodeName: "+first).
		Replace(pod("imported", `nginx`, "")))
	s.ready("pod/imported")
}
