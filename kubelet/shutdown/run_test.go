package shutdown_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"skiff/kubelet/shutdown"
)

const busConf = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
`

// bus runs a bus of its own and returns how it is reached.
func bus(t *testing.T) func(context.Context) (*dbus.Conn, error) {
	t.Helper()
	bin, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("want dbus-daemon, of Debian's dbus-daemon")
	}
	dir, err := os.MkdirTemp("", "bus") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, conf := filepath.Join(dir, "s"), filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, busConf, socket), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--config-file="+conf, "--nofork", "--nopidfile", "--print-address")
	cmd.WaitDelay = time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal("the bus did not start: ", err)
	}
	return func(ctx context.Context) (*dbus.Conn, error) {
		return dbus.Connect("unix:path="+socket, dbus.WithContext(ctx))
	}
}

// machine stands for systemd and its logind.
type machine struct {
	t       *testing.T
	conn    *dbus.Conn
	confDir string
	taken   chan struct{} // one for each lock
	left    chan struct{} // one for each lock that was let go

	mu    sync.Mutex
	delay time.Duration // guarded by mu
}

func newMachine(t *testing.T, connect func(context.Context) (*dbus.Conn, error), delay time.Duration) *machine {
	t.Helper()
	conn, err := connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &machine{t: t, conn: conn, confDir: t.TempDir(), taken: make(chan struct{}, 8), left: make(chan struct{}, 8), delay: delay}
	for _, e := range []struct {
		value any
		path  dbus.ObjectPath
		iface string
	}{
		{m, "/org/freedesktop/login1", "org.freedesktop.login1.Manager"},
		{properties{m}, "/org/freedesktop/login1", "org.freedesktop.DBus.Properties"},
		{units{m}, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"},
	} {
		if err := conn.Export(e.value, e.path, e.iface); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"org.freedesktop.login1", "org.freedesktop.systemd1"} {
		if r, err := conn.RequestName(name, 0); err != nil || r != dbus.RequestNameReplyPrimaryOwner {
			t.Fatalf("take the name %s: %v, %v", name, r, err)
		}
	}
	return m
}

// Inhibit gives a lock: the end of a pipe, whose other end tells when it is closed.
func (m *machine) Inhibit(what, _, _, mode string) (dbus.UnixFD, *dbus.Error) {
	if what != "shutdown" || mode != "delay" {
		return 0, dbus.MakeFailedError(fmt.Errorf("lock of %s, %s", what, mode))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	m.taken <- struct{}{}
	go func() {
		defer r.Close()
		if _, err := r.Read(make([]byte, 1)); err != nil {
			m.left <- struct{}{}
		}
	}()
	// The message has a copy once it is sent.
	time.AfterFunc(100*time.Millisecond, func() { w.Close() })
	return dbus.UnixFD(w.Fd()), nil
}

type properties struct{ m *machine }

// Get answers how long logind waits.
func (p properties) Get(_, name string) (dbus.Variant, *dbus.Error) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	if name != "InhibitDelayMaxUSec" {
		return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("no property %s", name))
	}
	return dbus.MakeVariant(uint64(p.m.delay / time.Microsecond)), nil
}

type units struct{ m *machine }

// KillUnit makes logind read its configuration.
func (u units) KillUnit(unit, _ string, _ int32) *dbus.Error {
	data, err := os.ReadFile(filepath.Join(u.m.confDir, "99-kubelet.conf"))
	if err != nil || unit != "systemd-logind.service" {
		return dbus.MakeFailedError(fmt.Errorf("unit %s: %w", unit, err))
	}
	_, text, _ := strings.Cut(string(data), "InhibitDelayMaxSec=")
	var seconds int
	if _, err := fmt.Sscan(text, &seconds); err != nil {
		return dbus.MakeFailedError(err)
	}
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	u.m.delay = time.Duration(seconds) * time.Second
	return nil
}

func (m *machine) goesDown(down bool) {
	m.t.Helper()
	if err := m.conn.Emit("/org/freedesktop/login1", "org.freedesktop.login1.Manager.PrepareForShutdown", down); err != nil {
		m.t.Fatal(err)
	}
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("not within 20 s: " + what)
	}
}

// guard runs until the test ends.
func guard(t *testing.T, cfg shutdown.Config) {
	t.Helper()
	g, err := shutdown.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestMachineWaitsForThePods(t *testing.T) {
	connect := bus(t)
	m := newMachine(t, connect, 5*time.Second)
	ended, goOn, off := make(chan struct{}), make(chan struct{}), make(chan struct{})
	guard(t, shutdown.Config{
		Groups: []shutdown.Group{{Time: 20 * time.Second}, {Priority: 2_000_000_000, Time: 10 * time.Second}}, Bus: connect, ConfDir: m.confDir,
		End: func(ctx context.Context) {
			ended <- struct{}{}
			select {
			case <-goOn:
			case <-ctx.Done():
			}
		},
		Off: func() { off <- struct{}{} },
	})
	within(t, "a lock", m.taken)
	m.mu.Lock()
	delay := m.delay
	m.mu.Unlock()
	if delay != 30*time.Second {
		t.Errorf("logind waits %v, want the pods' 30s", delay)
	}
	m.goesDown(true)
	within(t, "the end of the pods", ended)
	select {
	case <-m.left:
		t.Fatal("the machine goes down before the pods have ended")
	case <-time.After(200 * time.Millisecond):
	}
	goOn <- struct{}{}
	within(t, "the lock let go", m.left)

	// A shutdown that is called off is followed by another lock.
	m.goesDown(false)
	within(t, "the calling off", off)
	within(t, "another lock", m.taken)
	m.goesDown(true)
	within(t, "the end of the pods, again", ended)
	goOn <- struct{}{}
	within(t, "the lock let go, again", m.left)
}

func TestBusThatIsNotThereIsTriedAgain(t *testing.T) {
	connect := bus(t)
	m := newMachine(t, connect, 30*time.Second)
	first := true
	guard(t, shutdown.Config{
		Groups: []shutdown.Group{{Time: 5 * time.Second}}, ConfDir: m.confDir,
		Bus: func(ctx context.Context) (*dbus.Conn, error) {
			if first {
				first = false
				return nil, fmt.Errorf("the bus is not there yet")
			}
			return connect(ctx)
		},
		End: func(context.Context) {}, Off: func() {},
	})
	within(t, "a lock, at the second try", m.taken)
	if _, err := os.Stat(filepath.Join(m.confDir, "99-kubelet.conf")); !os.IsNotExist(err) {
		t.Errorf("logind waits long enough, but its configuration was changed: %v", err)
	}
}
