package audit

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Files that are put aside are packed, whole, and the oldest go.
//
// Covers: api.audit
func TestLogPacks(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "audit-2020-01-01T00-00-00.000.log")
	older := filepath.Join(dir, "audit-2019-01-01T00-00-00.000.log.gz")
	for _, path := range []string{left, older} {
		if err := os.WriteFile(path, []byte("left over\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := NewLog(LogConfig{Path: filepath.Join(dir, "audit.log"), MaxSize: 1, MaxBackups: 2, Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	large := strings.Repeat("x", 600<<10)
	for i := range 2 {
		if err := l.Record(t.Context(), event(i, large)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 || files[0] != left+".gz" || !strings.HasSuffix(files[1], ".log.gz") || files[2] != l.cfg.Path {
		t.Fatalf("files %q", files)
	}
	for path, want := range map[string]string{files[0]: "left over\n", files[1]: `"` + large + `"`} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(z); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s holds %.80q: %v", path, text, err)
		}
	}
}
