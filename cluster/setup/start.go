package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"skiff/cluster/layout"
	"skiff/cluster/process"
)

// errEnded tells that the node's process has ended while it was waited for.
var errEnded = errors.New("the node's process has ended")

// startNode starts the node's process, unless whoever runs the phases does.
func startNode(_ context.Context, m *Machine) error {
	if m.Executable == "" {
		return nil
	}
	if pid, err := process.Find(m.Layout); err != nil || pid != 0 {
		return err
	}
	pid, exited, err := process.Start(m.Layout, m.NetNS, m.Executable, m.RunArgs(m.Layout)...)
	if err != nil {
		return err
	}
	m.exited = exited
	m.say("kubelet-start", "Started the node as process %d; its log is %s", pid, m.Layout.ProcessLog())
	return nil
}

// alive is an error once the process that startNode started has ended, and no waiting
// helps.
func alive(m *Machine) error {
	if m.exited == nil {
		return nil
	}
	select {
	case <-m.exited:
		return fatal{Ended(m.Layout)}
	default:
		return nil
	}
}

// Ended is the error of a node whose process has ended, with its last words.
func Ended(l layout.Layout) error {
	return fmt.Errorf("%w; the end of its log %s:\n%s", errEnded, l.ProcessLog(), LogTail(l))
}

// LogTail is the last of the process's log.
func LogTail(l layout.Layout) string {
	const most = 2048
	f, err := os.Open(l.ProcessLog())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err.Error()
	}
	if _, rest, cut := bytes.Cut(data, []byte("\n")); cut && len(data) == most {
		data = rest
	}
	return string(bytes.TrimSpace(data))
}
