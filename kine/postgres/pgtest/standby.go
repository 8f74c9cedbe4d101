package pgtest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Standby makes a copy of the server that follows it. With synchronous, a commit
// waits until the standby has it.
func (s *Server) Standby(t testing.TB, synchronous bool) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if s.credential != nil {
		if err := os.Chown(dir, int(s.credential.Uid), int(s.credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	other := &Server{dir: dir, bin: s.bin, credential: s.credential}
	other.run(t, "pg_basebackup", "-D", other.data(), "-R", "-c", "fast", "--no-sync", "-d", fmt.Sprintf("host=%s user=postgres application_name=standby", s.dir))
	other.Up(t)
	t.Cleanup(func() { other.Down(t, "immediate") })
	if synchronous {
		s.single(t, "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
		s.single(t, "SELECT pg_reload_conf()")
	}
	return other
}

// Detach makes a standby follow nobody: what the other server commits from now on
// it does not have.
func (s *Server) Detach(t testing.TB) {
	t.Helper()
	s.single(t, "ALTER SYSTEM SET primary_conninfo = ''")
	s.single(t, "SELECT pg_reload_conf()")
}

// Promote makes a server of a standby.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.run(t, "pg_ctl", "-D", s.data(), "-w", "-s", "promote")
}

// Both is the URL of a database that is on either of two servers: whichever takes
// writes.
func Both(t testing.TB, address string, s, other *Server) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("host", strings.Join([]string{s.dir, other.dir}, ","))
	u.RawQuery = q.Encode()
	return u.String()
}

// Log is what the server has written, for a test that failed.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}
