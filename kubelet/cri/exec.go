package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"skiff/kubelet/bounded"
	"skiff/kubelet/cri/shimapi"
)

const (
	// maxExecOutput bounds what ExecSync keeps of each stream for those who ask
	// for no less.
	maxExecOutput = 16 << 20
	// drainPatience is how long output is read after a process has ended, when
	// something it has left behind holds its streams open.
	drainPatience = 2 * time.Second
)

// pastDeadline ends a blocked read or write at once.
var pastDeadline = time.Unix(1, 0)

func (r *Runtime) runningContainer(id string) (*container, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, err
	}
	if err := c.running(); err != nil {
		return nil, coded(fmt.Errorf("failed to exec in container %q: %w", c.id, err))
	}
	return c, nil
}

// ExecSync implements RuntimeService: a command that does not end well is a
// utilexec.ExitError, one that takes too long has the code DeadlineExceeded.
func (r *Runtime) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (stdout, stderr []byte, err error) {
	out, errOut, code, err := r.execSync(ctx, id, cmd, timeout)
	if err == nil && code != 0 {
		err = utilexec.CodeExitError{Err: fmt.Errorf("command '%s' exited with %d: %s", joinCommand(cmd), code, bounded.Text(string(errOut), bounded.Message)), Code: code}
	}
	return out, errOut, err
}

func joinCommand(cmd []string) string {
	var b bytes.Buffer
	for i, a := range cmd {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a)
	}
	return b.String()
}

func (r *Runtime) execSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (stdout, stderr []byte, code int, err error) {
	c, err := r.runningContainer(id)
	if err != nil {
		return nil, nil, 0, err
	}
	if len(cmd) == 0 {
		return nil, nil, 0, invalid("exec in container %q: no command given", id)
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
		defer cancel()
	}
	limit := bounded.Output(ctx, maxExecOutput)
	outBuf, errBuf := limitedBuffer{limit: limit}, limitedBuffer{limit: limit}
	code, err = r.execIn(ctx, c, cmd, nil, &outBuf, &errBuf, false, nil)
	if errors.Is(context.Cause(ctx), errTimeout) && err != nil {
		return outBuf.Bytes(), errBuf.Bytes(), 0, status.Errorf(codes.DeadlineExceeded, "failed to exec in container: timeout %v exceeded: %v", timeout, context.DeadlineExceeded)
	}
	return outBuf.Bytes(), errBuf.Bytes(), code, coded(err)
}

var errTimeout = errors.New("exec took too long")

// limitedBuffer keeps the beginning of what is written and drops the rest.
type limitedBuffer struct {
	bytes.Buffer
	limit int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// execIn runs a command in a container with the given streams, and returns its
// exit code when it has ended and its output is read.
func (r *Runtime) execIn(ctx context.Context, c *container, cmd []string, in io.Reader, out, errOut io.Writer, tty bool, resize <-chan remotecommand.TerminalSize) (int, error) {
	if tty {
		return r.execTerminal(ctx, c, cmd, in, out, resize)
	}
	p := newPlumbing()
	defer p.closeAll()
	streams := shimapi.Streams{Stdin: in != nil, Stdout: out != nil, Stderr: errOut != nil, Args: cmd}
	if err := p.connect(in, out, errOut); err != nil {
		return 0, err
	}
	session, err := c.sandbox.shim.Exec(ctx, c.id, streams, p.theirs...)
	p.closeTheirs()
	if err != nil {
		return 0, fmt.Errorf("failed to exec in container: %w", err)
	}
	p.start()
	code, err := session.Wait(ctx)
	if err != nil {
		return 0, err
	}
	p.drain(drainPatience)
	return code, nil
}

func (r *Runtime) execTerminal(ctx context.Context, c *container, cmd []string, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) (int, error) {
	session, err := c.sandbox.shim.Exec(ctx, c.id, shimapi.Streams{Terminal: true, Args: cmd})
	if err != nil {
		return 0, fmt.Errorf("failed to exec in container: %w", err)
	}
	console := session.Console
	if console == nil {
		session.Close()
		return 0, errors.New("the shim sent no terminal")
	}
	if console, err = nonblocking(console); err != nil {
		session.Close()
		return 0, err
	}
	p := newPlumbing()
	defer p.closeAll()
	p.ours = append(p.ours, console)
	done := make(chan struct{})
	defer close(done)
	go followSize(done, resize, func(w, h uint16) { setWindow(console, w, h) })
	if out != nil {
		p.outputs = append(p.outputs, &output{from: console, to: out})
	}
	if in != nil {
		p.input = func() { copyQuietly(console, in) }
	}
	p.start()
	code, err := session.Wait(ctx)
	if err != nil {
		return 0, err
	}
	p.drain(drainPatience)
	return code, nil
}

func followSize(done <-chan struct{}, resize <-chan remotecommand.TerminalSize, set func(w, h uint16)) {
	for {
		select {
		case <-done:
			return
		case size, ok := <-resize:
			if !ok {
				return
			}
			if size.Width > 0 && size.Height > 0 {
				set(size.Width, size.Height)
			}
		}
	}
}

// nonblocking returns the same open file in a form whose reads can be given up.
func nonblocking(f *os.File) (*os.File, error) {
	defer f.Close()
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var dupErr error
	if err := rc.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, dupErr
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "terminal"), nil
}

func setWindow(f *os.File, width, height uint16) {
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	// The terminal may be gone; its size is of no use then.
	_ = rc.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
}

func copyQuietly(dst io.Writer, src io.Reader) {
	// An end of either side ends the copying; there is no one to tell.
	_, _ = io.Copy(struct{ io.Writer }{dst}, struct{ io.Reader }{src})
}

// streamRuntime is what the stream server calls.
type streamRuntime struct{ r *Runtime }

// Exec implements streaming.Runtime.
func (s streamRuntime) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := s.r.runningContainer(id)
	if err != nil {
		return err
	}
	code, err := s.r.execIn(ctx, c, cmd, in, writerOf(out), writerOf(errOut), tty, resize)
	if err != nil {
		return err
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("error executing command %v, exit code %d", cmd, code), Code: code}
	}
	return nil
}

// writerOf keeps a nil writer nil: one inside an interface is not.
func writerOf(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}

// Attach implements streaming.Runtime.
func (s streamRuntime) Attach(ctx context.Context, id string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := s.r.runningContainer(id)
	if err != nil {
		return err
	}
	if !c.cfg.Stdin && !c.cfg.Tty {
		in = nil
	}
	if c.cfg.Tty {
		errOut = nil
	}
	p := newPlumbing()
	defer p.closeAll()
	if err := p.connect(in, writerOf(out), writerOf(errOut)); err != nil {
		return err
	}
	session, err := c.sandbox.shim.Attach(ctx, c.id, shimapi.Streams{Stdin: in != nil, Stdout: out != nil, Stderr: errOut != nil}, p.theirs...)
	p.closeTheirs()
	if err != nil {
		return fmt.Errorf("failed to attach to container: %w", err)
	}
	done := make(chan struct{})
	defer close(done)
	go followSize(done, resize, func(w, h uint16) { _ = c.sandbox.shim.Resize(ctx, c.id, w, h) })
	p.start()
	if _, err := session.Wait(ctx); err != nil && ctx.Err() == nil && c.running() == nil {
		return err
	}
	p.drain(drainPatience)
	return nil
}

// PortForward implements streaming.Runtime.
func (s streamRuntime) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	return s.r.forward(ctx, id, port, stream)
}

// Exec implements RuntimeService.
func (r *Runtime) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if _, err := r.runningContainer(req.GetContainerId()); err != nil {
		return nil, err
	}
	return r.streamServer().GetExec(req)
}

// Attach implements RuntimeService.
func (r *Runtime) Attach(_ context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if _, err := r.runningContainer(req.GetContainerId()); err != nil {
		return nil, err
	}
	return r.streamServer().GetAttach(req)
}

// PortForward implements RuntimeService.
func (r *Runtime) PortForward(_ context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	sb, err := r.sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if sb.phase() != phaseReady {
		return nil, coded(fmt.Errorf("sandbox container %q is not running", sb.id))
	}
	return r.streamServer().GetPortForward(req)
}
