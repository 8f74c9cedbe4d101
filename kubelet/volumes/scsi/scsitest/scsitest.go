// Package scsitest is a node without disks: a tree of files in place of /sys and /dev, and
// programs that only say what they were asked.
package scsitest

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/utils/exec"
	testingexec "k8s.io/utils/exec/testing"

	"skiff/kubelet/volumes/scsi"
)

// Tree makes files by path; content "-> x" is a link, and a path that ends with a slash a
// folder.
func Tree(t *testing.T, files map[string]string) scsi.Host {
	t.Helper()
	h := scsi.Host{Root: t.TempDir()}
	Add(t, h, files)
	return h
}

// Add makes more of them.
func Add(t *testing.T, h scsi.Host, files map[string]string) {
	t.Helper()
	for path, content := range files {
		at := h.Path(path)
		dir := filepath.Dir(at)
		if strings.HasSuffix(path, "/") {
			dir = at
		}
		err := os.MkdirAll(dir, 0o755)
		to, link := strings.CutPrefix(content, "-> ")
		switch {
		case err != nil || dir == at:
		case link:
			err = os.Symlink(to, at)
		default:
			err = os.WriteFile(at, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Programs are those of the node.
type Programs struct {
	// Answer is what a program prints and how it ends; nil prints nothing.
	Answer func(argv string) (string, error)

	mu  sync.Mutex
	ran []string // guarded by mu
}

// Exit is the end of a program with a code.
func Exit(code int) error { return testingexec.FakeExitError{Status: code} }

// Ran are the command lines since the last call.
func (p *Programs) Ran() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.ran
	p.ran = nil
	return out
}

// Exec runs them.
func (p *Programs) Exec() exec.Interface {
	run := func(name string, args ...string) exec.Cmd {
		argv := strings.Join(append([]string{name}, args...), " ")
		p.mu.Lock()
		p.ran = append(p.ran, argv)
		p.mu.Unlock()
		answer := func() ([]byte, []byte, error) {
			if p.Answer == nil {
				return nil, nil, nil
			}
			out, err := p.Answer(argv)
			return []byte(out), nil, err
		}
		return &testingexec.FakeCmd{CombinedOutputScript: []testingexec.FakeAction{answer}, OutputScript: []testingexec.FakeAction{answer}, RunScript: []testingexec.FakeAction{answer}}
	}
	f := &testingexec.FakeExec{}
	for range 200 {
		f.CommandScript = append(f.CommandScript, run)
	}
	return f
}
