package pgtest

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// poolerPort only names the socket.
const poolerPort = 6432

// Pooler is a PgBouncer in transaction mode in front of a server: each transaction
// of a client may be on another connection than the one before.
type Pooler struct {
	s         *Server
	dir       string
	databases atomic.Int32
}

// Pooler starts a PgBouncer that ends with the test. The test is skipped where none
// is installed.
func (s *Server) Pooler(t testing.TB) *Pooler {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer" // which a user's PATH need not have
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("no PgBouncer is installed")
	}
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &Pooler{s: s, dir: dir}
	for name, text := range map[string]string{
		"users": `"postgres" ""`,
		"ini": fmt.Sprintf(`[databases]
* = host=%s
[pgbouncer]
listen_addr =
listen_port = %d
unix_socket_dir = %s
auth_type = trust
auth_file = %[3]s/users
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
`, s.dir, poolerPort, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path, filepath.Join(dir, "ini"))
	if s.credential != nil {
		// It refuses to run as root too.
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential}
		if err := os.Chown(dir, int(s.credential.Uid), int(s.credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it runs until now
		_ = cmd.Wait()
		// A server that looks whether notifications pass may cause one each time.
		if n := strings.Count(out.String(), "when not linked"); n > 4*int(p.databases.Load()) {
			t.Errorf("PgBouncer got %d notifications that are nobody's, with %d databases", n, p.databases.Load())
		}
		if t.Failed() {
			t.Logf("pgbouncer: %s", out.String())
		}
	})
	socket := filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", poolerPort))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("PgBouncer does not listen: %v\n%s", err, out.String())
		}
	}
}

// Database makes an empty database and returns its URL through the pooler. listen
// names the database's own host for notifications. A schema would be lost on the
// way: a pooler hands over no search_path.
func (p *Pooler) Database(t testing.TB, listen bool) string {
	t.Helper()
	p.databases.Add(1)
	name := fmt.Sprintf("pooled%d", p.s.schemas.Add(1))
	p.s.single(t, "CREATE DATABASE "+name)
	q := url.Values{"host": {p.dir}, "port": {fmt.Sprint(poolerPort)}, "sslmode": {"disable"}}
	if listen {
		q.Set("listen", p.s.dir)
	}
	return "postgres://postgres@/" + name + "?" + q.Encode()
}
