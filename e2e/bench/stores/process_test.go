package stores

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"skiff/kine/etcd/etcdtest"
	"skiff/kine/postgres/pgtest"
)

// profileEnv has the file for the profile of a face's process.
const profileEnv = "SKIFF_BENCH_PROFILE"

// startProfile writes a profile of the processors' time until it is stopped.
func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

// process is a server that can be started again.
type process struct {
	t       *testing.T
	s       *Server
	command func() *exec.Cmd
	running *exec.Cmd
}

// start starts the process and waits until it answers.
func (p *process) start() error {
	p.running = p.command()
	p.running.Stderr = os.Stderr
	if err := p.running.Start(); err != nil {
		return err
	}
	p.s.PID = p.running.Process.Pid
	return p.answers()
}

func (p *process) answers() error {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	c, err := connect(p.s.Address)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		_, err := pb.NewKVClient(c).Range(ctx, &pb.RangeRequest{Key: []byte("k")}, grpc.WaitForReady(true))
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not answer: %w", p.s.Name, err)
		}
	}
}

// stop ends the process in order.
func (p *process) stop() {
	if p.running == nil {
		return
	}
	_ = p.running.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = p.running.Wait()
	p.running = nil
}

// freeAddress is an address of this machine that nobody uses at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// newProcess makes the server of a name, over TCP like the others.
func newProcess(t *testing.T, name string) *process {
	t.Helper()
	dir := t.TempDir()
	address := freeAddress(t)
	p := &process{t: t, s: &Server{Name: name, Address: address, Dir: dir}}
	face := func(endpoint string) func() *exec.Cmd {
		return func() *exec.Cmd {
			if *skiff != "" {
				return exec.Command(*skiff, "kine", "--history-window", "0", "--endpoint", endpoint, "--listen-address", "http://"+address)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), servedEnv+"="+endpoint+" http://"+address)
			if *profile != "" {
				cmd.Env = append(cmd.Env, profileEnv+"="+filepath.Join(*profile, name+".pprof"))
			}
			return cmd
		}
	}
	switch name {
	case Etcd:
		p.command = func() *exec.Cmd { return etcdtest.Single(t, filepath.Join(dir, "data"), address) }
	case "sqlite":
		p.command = face("sqlite://" + filepath.Join(dir, "state.db"))
	case "postgres":
		server := pgtest.Start(t)
		p.s.Dir = server.Dir()
		p.s.Others = []int{server.PID(t)}
		p.command = face(server.Database(t))
	default:
		t.Fatalf("a server %q: want etcd, sqlite or postgres", name)
	}
	t.Cleanup(p.stop)
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	return p
}
