package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

const (
	// maxPluginResult is the longest result that a plugin may print.
	maxPluginResult = 1 << 20
	// maxPluginText is how much of a plugin's own words goes into an error.
	maxPluginText = 1 << 10
	// pluginDrain is how long output is awaited that something which the plugin
	// has left behind holds open.
	pluginDrain = time.Second
	// busyRetries is how often a plugin that is being written is tried.
	busyRetries = 5
)

// pluginExec runs plugins for libcni. Each has a process group of its own, so
// that one which takes too long ends with everything it has started.
type pluginExec struct{ version.PluginDecoder }

var _ invoke.Exec = (*pluginExec)(nil)

// FindInPath implements invoke.Exec.
func (*pluginExec) FindInPath(plugin string, dirs []string) (string, error) {
	return invoke.FindInPath(plugin, dirs)
}

// ExecPlugin implements invoke.Exec.
func (*pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	for try := 0; ; try++ {
		out, err := runPlugin(ctx, path, stdin, env)
		if try == busyRetries || !errors.Is(err, unix.ETXTBSY) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func runPlugin(ctx context.Context, path string, stdin []byte, env []string) ([]byte, error) {
	stdout, stderr := boundedOutput{limit: maxPluginResult}, boundedOutput{limit: maxPluginText}
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, bytes.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = pluginDrain
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("netplugin did not end in time and was killed: %w", ctx.Err())
	case err != nil && cmd.ProcessState == nil:
		return nil, fmt.Errorf("start netplugin: %w", err)
	case stdout.more:
		return nil, &types.Error{Msg: fmt.Sprintf("netplugin printed more than %d bytes, beginning with %q", maxPluginResult, cut(stdout.kept))}
	case err == nil, errors.Is(err, exec.ErrWaitDelay), errors.Is(err, unix.EPIPE) && cmd.ProcessState.Success():
		// What a plugin leaves running may keep its output open, and a plugin need
		// not read all of its input: its result counts.
		return stdout.kept, nil
	}
	return nil, pluginFailure(err, stdout.kept, stderr.kept)
}

// pluginFailure is the error of a plugin that has exited badly. It tells on its
// output what went wrong, as the CNI specification has it, or it is broken.
func pluginFailure(err error, stdout, stderr []byte) error {
	var told types.Error
	switch {
	case len(stdout) == 0 && len(stderr) == 0:
		told.Msg = fmt.Sprintf("netplugin failed with no error message: %v", err)
	case len(stdout) == 0:
		told.Msg = fmt.Sprintf("netplugin failed: %q: %v", stderr, err)
	default:
		if perr := json.Unmarshal(stdout, &told); perr != nil {
			told = types.Error{Msg: fmt.Sprintf("netplugin failed but error parsing its diagnostic message %q: %v", cut(stdout), perr)}
		}
		told.Msg, told.Details = string(cut([]byte(told.Msg))), string(cut([]byte(told.Details)))
	}
	return &told
}

func cut(text []byte) []byte { return text[:min(len(text), maxPluginText)] }

// boundedOutput keeps the beginning of what is written, and whether there was
// more. It takes all, so that a plugin with much to say comes to its end.
type boundedOutput struct {
	limit int
	kept  []byte
	more  bool
}

func (b *boundedOutput) Write(p []byte) (int, error) {
	room := b.limit - len(b.kept)
	b.more = b.more || len(p) > room
	b.kept = append(b.kept, p[:min(room, len(p))]...)
	return len(p), nil
}
