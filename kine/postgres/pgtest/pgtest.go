// Package pgtest runs a PostgreSQL server for a test.
package pgtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Server is a PostgreSQL server in a temporary folder, on a socket.
type Server struct {
	dir        string
	bin        string
	credential *syscall.Credential
	schemas    atomic.Int64
}

// Start makes a server that ends with the test. The test is skipped where no
// server is installed.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{bin: find()}
	if s.bin == "" {
		t.Skip("no PostgreSQL server (initdb, pg_ctl) is installed")
	}
	// A socket's path is at most 107 bytes long, so it cannot be in t.TempDir.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Getuid() == 0 {
		// The server refuses to run as root.
		for _, name := range []string{"postgres", "nobody"} {
			u, err := user.Lookup(name)
			if err != nil {
				continue
			}
			uid, _ := strconv.Atoi(u.Uid)
			gid, _ := strconv.Atoi(u.Gid)
			s.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			if err := os.Chown(dir, uid, gid); err != nil {
				t.Fatal(err)
			}
			break
		}
		if s.credential == nil {
			t.Skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
		}
	}
	s.run(t, "initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
	s.Up(t)
	t.Cleanup(func() { s.Down(t, "immediate") })
	return s
}

func find() string {
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(real)
		}
	}
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(dirs) == 0 {
		return ""
	}
	return dirs[len(dirs)-1]
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Up starts the server and waits until it answers.
func (s *Server) Up(t testing.TB) {
	t.Helper()
	s.run(t, "pg_ctl", "-D", s.data(), "-w", "-s", "-l", filepath.Join(s.dir, "log"),
		"-o", fmt.Sprintf("-k %s -c listen_addresses='' -c max_connections=200", s.dir), "start")
}

// Down stops the server: smart, fast or immediate, which is a crash.
func (s *Server) Down(t testing.TB, mode string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(s.data(), "postmaster.pid")); err != nil {
		return
	}
	s.run(t, "pg_ctl", "-D", s.data(), "-w", "-s", "-m", mode, "stop")
}

// Database is the URL of a new, empty schema.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.schemas.Add(1))
	s.single(t, "CREATE SCHEMA "+name)
	return s.url(name)
}

// Dir is the server's folder.
func (s *Server) Dir() string { return s.dir }

// PID is the server's first process.
func (s *Server) PID(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func (s *Server) run(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	var out bytes.Buffer
	cmd.Stderr = &out
	if s.credential != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential}
	}
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		t.Fatalf("%s: %v\n%s\n%s", name, err, out.Bytes(), log)
	}
}
