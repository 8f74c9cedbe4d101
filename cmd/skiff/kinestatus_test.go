package main

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"skiff/kine/backend"
	"skiff/kine/kinetest"
)

// Covers: store.status
func TestKineStatus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	address := "sqlite://" + path
	s, err := backend.New(address, backend.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, s)
	for _, key := range []string{"/a", "/b"} {
		if _, err := s.Create(t.Context(), key, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	out, err := kineStatus(t, "--endpoint", address)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`store: +sqlite://` + regexp.QuoteMeta(path) + ` +sqlite`, `revision: +3`, `compact revision: +0 `, `oldest revision: +0 `, `compaction lag: +0 `,
		`keys: +2`, `size: +[0-9.]+ MiB +on disk`, `free: +[0-9.]+ MiB`,
	} {
		if !regexp.MustCompile(`(?m)^` + line).MatchString(out) {
			t.Errorf("no line %q in\n%s", line, out)
		}
	}
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no node", []string{"--root", t.TempDir()}, "name the store with --endpoint"},
		{"no file", []string{"--endpoint", "sqlite:///nowhere/state.db"}, "/nowhere/state.db"},
		{"no store", []string{"--endpoint", "etcd-snapshot:///a.db"}, "skiff migrate"},
		{"unknown scheme", []string{"--endpoint", "mysql://u:secret@host/db"}, "want sqlite:///PATH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := kineStatus(t, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q and no password", err, c.want)
			}
		})
	}
}

func kineStatus(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := kineStatusCommand()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}
