package setup

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skiff/cluster/layout"
)

// Nobody waits for a process that has ended, and its last words are told.
func TestEndedProcessIsNotWaitedFor(t *testing.T) {
	exited := make(chan struct{})
	close(exited)
	l, err := layout.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{Layout: l, exited: exited}
	if err := os.MkdirAll(filepath.Dir(l.ProcessLog()), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.ProcessLog(), []byte("error: unknown field\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tries := 0
	err = retry(t.Context(), time.Minute, func(context.Context) error {
		tries++
		return alive(m)
	})
	if !errors.Is(err, errEnded) || tries != 1 || !strings.Contains(err.Error(), "error: unknown field") {
		t.Errorf("%v after %d tries", err, tries)
	}
}
