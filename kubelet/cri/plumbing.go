package cri

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// plumbing are the pipes between a client's streams and a process.
type plumbing struct {
	ours    []*os.File // our ends
	theirs  []*os.File // the process's ends
	input   func()     // copies stdin; nil without
	outputs []func()   // copy output

	copying sync.WaitGroup
}

func newPlumbing() *plumbing { return &plumbing{} }

// connect makes a pipe for each stream that is there.
func (p *plumbing) connect(in io.Reader, out, errOut io.Writer) error {
	if in != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		if err := blocks(r); err != nil {
			r.Close()
			w.Close()
			return err
		}
		p.ours, p.theirs = append(p.ours, w), append(p.theirs, r)
		p.input = func() {
			copyQuietly(w, in)
			w.Close()
		}
	}
	for _, dst := range []io.Writer{out, errOut} {
		if dst == nil {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		if err := blocks(w); err != nil {
			r.Close()
			w.Close()
			return err
		}
		p.ours, p.theirs = append(p.ours, r), append(p.theirs, w)
		p.outputs = append(p.outputs, func() { copyQuietly(dst, r) })
	}
	return nil
}

// blocks makes a process's end of a pipe block, as programs expect: os.Pipe's
// ends do not.
func blocks(f *os.File) error { return syscall.SetNonblock(int(f.Fd()), false) }

// start begins to copy. Copying stdin ends when the client's stream does, which
// is not waited for: its owner closes it after the call.
func (p *plumbing) start() {
	if p.input != nil {
		go p.input()
	}
	for _, f := range p.outputs {
		p.copying.Go(f)
	}
}

// drain waits until all output is copied, and no longer than limit.
func (p *plumbing) drain(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		p.copying.Wait()
		close(done)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		for _, f := range p.ours {
			f.SetReadDeadline(pastDeadline)
		}
		<-done
	}
}

func (p *plumbing) closeTheirs() {
	for _, f := range p.theirs {
		f.Close()
	}
	p.theirs = nil
}

func (p *plumbing) closeAll() {
	p.closeTheirs()
	for _, f := range p.ours {
		f.Close()
	}
	p.copying.Wait()
}
