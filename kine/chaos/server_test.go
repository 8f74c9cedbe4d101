package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"skiff/kine"
	"skiff/kine/etcd"
	"skiff/kine/etcd/etcdtest"
	"skiff/kine/etcdserver"
	"skiff/kine/kinetest"
	"skiff/kine/sqlite"
)

// The environment of a server process: where its files are, and the point at which
// it ends itself, the how manieth time it comes there.
const (
	serverDir   = "SKIFF_CHAOS_DIR"
	serverPoint = "SKIFF_CHAOS_POINT"
)

func TestMain(m *testing.M) {
	etcdtest.Main()
	if dir := os.Getenv(serverDir); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve is the server process: a SQLite store behind the etcd face.
func serve(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	point, count, _ := strings.Cut(os.Getenv(serverPoint), ",")
	var left int
	if count != "" {
		if _, err := fmt.Sscan(count, &left); err != nil {
			return err
		}
	}
	store, err := sqlite.New(sqlite.Config{
		Path: filepath.Join(dir, "state.db"), CompactInterval: time.Hour, Progress: 100 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		At: func(p sqlite.Point) {
			if string(p) != point {
				return
			}
			if left--; left == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // there is no after
				select {}
			}
		},
	})
	if err != nil {
		return err
	}
	face, err := etcdserver.New(etcdserver.Config{Store: store, Listen: []string{"unix://" + filepath.Join(os.Getenv("SKIFF_CHAOS_RUN"), "s")}})
	if err != nil {
		return err
	}
	ends := make(chan error, 2)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ends <- store.Run(ctx) }()
	go func() {
		select {
		case <-store.Ready():
			ends <- face.Run(ctx)
		case <-ctx.Done():
			ends <- nil
		}
	}()
	err = <-ends
	cancel()
	if second := <-ends; err == nil {
		err = second
	}
	return err
}

// process is a server that can be killed and started again.
type process struct {
	t   *testing.T
	dir string
	run string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
	log   bytes.Buffer
}

// Write is the process' log.
func (p *process) Write(lines []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log.Write(lines)
	return os.Stderr.Write(lines)
}

// logged says how often the process has logged what.
func (p *process) logged(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.log.String(), what)
}

// start makes a server with its files in dir, and a client of it.
func start(t *testing.T, dir string) (*process, kine.Store) {
	t.Helper()
	// A socket's path is at most 107 bytes long.
	run, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	p := &process{t: t, dir: dir, run: run}
	p.up("")
	t.Cleanup(p.kill)
	s, err := etcd.New(etcd.Config{Endpoints: []string{"unix://" + filepath.Join(run, "s")}, Timeout: 5 * time.Second, CompactInterval: -1, Progress: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	kinetest.Start(t, s)
	return p, s
}

// up starts the process; point is "" or where it ends itself.
func (p *process) up(point string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverDir+"="+p.dir, "SKIFF_CHAOS_RUN="+p.run, serverPoint+"="+point)
	cmd.Stdout, cmd.Stderr = io.Discard, p
	if err := cmd.Start(); err != nil {
		p.t.Error(err)
		return
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed
		close(ended)
	}()
	p.cmd, p.ended = cmd, ended
}

// signal sends a signal to the process.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(s) // it may have ended
}

// wait waits until the process has ended, false when it did not.
func (p *process) wait(ctx context.Context) bool {
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.wait(context.Background())
}
