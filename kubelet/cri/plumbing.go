package cri

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// plumbing are the pipes between a client's streams and a process.
type plumbing struct {
	ours    []*os.File // our ends
	theirs  []*os.File // the process's ends
	input   func()     // copies stdin; nil without
	outputs []*output

	copying sync.WaitGroup
}

// output is one of a process's, on its way to the client.
type output struct {
	from *os.File
	to   io.Writer
	read atomic.Int64
}

// copyBuffer bounds one read of an output.
const copyBuffer = 32 << 10

// Read implements io.Reader.
func (o *output) Read(b []byte) (int, error) {
	n, err := o.from.Read(b[:min(len(b), copyBuffer)])
	o.read.Add(int64(n))
	return n, err
}

// unread is what waits to be read.
func (o *output) unread() int64 {
	rc, err := o.from.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	if cerr := rc.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); cerr != nil || err != nil {
		return 0
	}
	return int64(n)
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
		p.outputs = append(p.outputs, &output{from: r, to: dst})
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
	for _, o := range p.outputs {
		p.copying.Go(func() { copyQuietly(o.to, o) })
	}
}

// drain waits, after the process's end, until all output is copied. What the
// process wrote is copied however slow the client is; what others write to streams
// that it has left them, no longer than limit.
func (p *plumbing) drain(limit time.Duration) {
	owed := make([]int64, len(p.outputs))
	for i, o := range p.outputs {
		// No less than it is: a read that goes on has not been counted.
		owed[i] = o.read.Load() + copyBuffer
		owed[i] += o.unread()
	}
	done := make(chan struct{})
	go func() {
		p.copying.Wait()
		close(done)
	}()
	tick := time.NewTicker(limit)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			for i, o := range p.outputs {
				if o.unread() == 0 || o.read.Load() >= owed[i] {
					_ = o.from.SetReadDeadline(pastDeadline) // a file that is closed is read no more
				}
			}
		}
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
