package shutdown

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	loginService = "org.freedesktop.login1"
	loginPath    = "/org/freedesktop/login1"
	loginManager = "org.freedesktop.login1.Manager"
	systemd      = "org.freedesktop.systemd1"
	systemdPath  = "/org/freedesktop/systemd1"
	goingDown    = "PrepareForShutdown"
)

// logind is systemd-logind, reached over one connection.
type logind struct {
	conn  *dbus.Conn
	login dbus.BusObject
}

func newLogind(conn *dbus.Conn) *logind {
	return &logind{conn: conn, login: conn.Object(loginService, loginPath)}
}

// maxDelay is how long logind waits for locks at most.
func (l *logind) maxDelay() (time.Duration, error) {
	v, err := l.login.GetProperty(loginManager + ".InhibitDelayMaxUSec")
	if err != nil {
		return 0, fmt.Errorf("read InhibitDelayMaxUSec of logind: %w", err)
	}
	micros, ok := v.Value().(uint64)
	if !ok {
		return 0, fmt.Errorf("InhibitDelayMaxUSec of logind is %v: want a number", v)
	}
	return time.Duration(min(micros, math.MaxInt64/1000)) * time.Microsecond, nil
}

// allow makes logind wait for want, by a file in its configuration's folder.
func (l *logind) allow(ctx context.Context, confDir string, want time.Duration) error {
	have, err := l.maxDelay()
	if err != nil || have >= want {
		return err
	}
	if err := os.MkdirAll(confDir, 0o755); err != nil {
		return err
	}
	conf := fmt.Sprintf("# Written by the kubelet for its shutdownGracePeriod.\n[Login]\nInhibitDelayMaxSec=%.0f\n", math.Ceil(want.Seconds()))
	if err := os.WriteFile(filepath.Join(confDir, "99-kubelet.conf"), []byte(conf), 0o644); err != nil {
		return err
	}
	// logind reads its configuration anew at this signal.
	call := l.conn.Object(systemd, systemdPath).CallWithContext(ctx, systemd+".Manager.KillUnit", 0, "systemd-logind.service", "all", int32(syscall.SIGHUP))
	if call.Err != nil {
		return fmt.Errorf("make logind read its configuration: %w", call.Err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); ; {
		if have, err = l.maxDelay(); err != nil || have >= want {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("node shutdown manager was unable to update logind InhibitDelayMaxSec to %v (ShutdownGracePeriod), current value of InhibitDelayMaxSec (%v) is less than requested ShutdownGracePeriod", want, have)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// lock makes a shutdown wait until the returned function is called.
func (l *logind) lock(ctx context.Context) (func(), error) {
	var fd dbus.UnixFD
	err := l.login.CallWithContext(ctx, loginManager+".Inhibit", 0, "shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay").Store(&fd)
	if err != nil {
		return nil, fmt.Errorf("take a lock of logind: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inhibitor")
	return func() { f.Close() }, nil
}

// watch tells of shutdowns that begin (true) and are called off (false). The
// channel is closed with the connection.
func (l *logind) watch(ctx context.Context) (<-chan bool, error) {
	err := l.conn.AddMatchSignalContext(ctx, dbus.WithMatchObjectPath(loginPath), dbus.WithMatchInterface(loginManager), dbus.WithMatchMember(goingDown))
	if err != nil {
		return nil, fmt.Errorf("watch logind: %w", err)
	}
	signals := make(chan *dbus.Signal, 8)
	l.conn.Signal(signals)
	out := make(chan bool)
	go func() {
		defer close(out)
		for s := range signals {
			if s.Name != loginManager+"."+goingDown || len(s.Body) == 0 {
				continue
			}
			down, ok := s.Body[0].(bool)
			if !ok {
				continue
			}
			select {
			case out <- down:
			case <-l.conn.Context().Done():
				return
			}
		}
	}()
	return out, nil
}

var errBusGone = errors.New("the connection to the system's bus has ended")
