package shutdown

import (
	"context"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"
	"k8s.io/klog/v2"
)

// Config configures a Guard.
type Config struct {
	// Groups are the pods' groups; none means that there is nothing to do.
	Groups []Group
	// Bus reaches the system's bus. The default is that of the machine.
	Bus func(context.Context) (*dbus.Conn, error)
	// ConfDir is the folder of logind's further configuration. The default is
	// the machine's.
	ConfDir string
	// End ends the pods and returns when all of them have ended, or their time is
	// over. Off is called when the shutdown was called off after all.
	End func(context.Context)
	Off func()
}

// Guard holds a lock of logind while the node runs.
type Guard struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Guard, error) {
	if cfg.End == nil || cfg.Off == nil {
		return nil, errors.New("shutdown: End and Off are required")
	}
	if cfg.Bus == nil {
		cfg.Bus = func(ctx context.Context) (*dbus.Conn, error) {
			return dbus.ConnectSystemBus(dbus.WithContext(ctx))
		}
	}
	if cfg.ConfDir == "" {
		cfg.ConfDir = "/etc/systemd/logind.conf.d"
	}
	return &Guard{cfg: cfg}, nil
}

const (
	minPause = time.Second
	maxPause = time.Minute
)

// Run guards the node until ctx ends. A machine without logind is tried again,
// seldom: it may be starting.
func (g *Guard) Run(ctx context.Context) error {
	if Total(g.cfg.Groups) == 0 {
		<-ctx.Done()
		return nil
	}
	log := klog.FromContext(ctx)
	pause := minPause
	for {
		began := time.Now()
		err := g.guard(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > maxPause {
			pause = minPause
		}
		log.Error(err, "Node shutdown manager cannot guard the node: a shutdown of the machine would not wait for its pods; it is tried again", "after", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// guard works over one connection.
func (g *Guard) guard(ctx context.Context) error {
	conn, err := g.cfg.Bus(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	l := newLogind(conn)
	if err := l.allow(ctx, g.cfg.ConfDir, Total(g.cfg.Groups)); err != nil {
		return err
	}
	events, err := l.watch(ctx)
	if err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { unlock() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case down, ok := <-events:
			switch {
			case !ok:
				return errBusGone
			case !down:
				klog.FromContext(ctx).Info("The shutdown of the machine was called off")
				g.cfg.Off()
				// A lock that was let go has to be taken anew.
				unlock()
				if unlock, err = l.lock(ctx); err != nil {
					unlock = func() {}
					return err
				}
			default:
				klog.FromContext(ctx).Info("The machine is shutting down: the node's pods are ended", "time", Total(g.cfg.Groups))
				g.cfg.End(ctx)
				unlock()
			}
		}
	}
}
