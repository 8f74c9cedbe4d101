package cri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Covers: node.cri
func TestReachable(t *testing.T) {
	for _, tc := range []struct {
		name         string
		above, below os.FileMode
		want         string // of the error
	}{
		{"all may pass", 0o711, 0o755, ""},
		{"closed above", 0o700, 0o711, "above has the mode 0700"},
		{"open to the group only", 0o711, 0o750, "below has the mode 0750"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root, err := os.MkdirTemp("", "reachable") // the folders above t.TempDir are closed
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(root) })
			above := filepath.Join(root, "above")
			below := filepath.Join(above, "below")
			if err := os.MkdirAll(below, 0o755); err != nil {
				t.Fatal(err)
			}
			for dir, mode := range map[string]os.FileMode{root: 0o755, above: tc.above, below: tc.below} {
				if err := os.Chmod(dir, mode); err != nil {
					t.Fatal(err)
				}
			}
			switch err := reachable(below); {
			case tc.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
