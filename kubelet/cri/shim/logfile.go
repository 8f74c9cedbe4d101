//go:build linux && cgo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// logTime is the time format of a container log line; fixed in width, so that
// lines sort.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// maxLogLine is the longest part of a line in one record: longer ones are cut
// into partial records.
const maxLogLine = 16 << 10

// logFile is a container's log in the CRI's format. Its methods may run at the
// same time.
type logFile struct {
	path string // empty: the container has no log

	mu     sync.Mutex
	f      *os.File // guarded by mu
	failed bool     // a write has failed and been reported; guarded by mu
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("container log: %w", err)
	}
	return l, l.reopen()
}

// reopen switches to a new file at the log's path, after the old was renamed.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	// A container that can write to the folder of logs must not choose where its
	// output goes, nor hold the shim up.
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return fmt.Errorf("container log: %w", err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(fmt.Errorf("container log: %s is not a regular file", l.path), err, f.Close())
	}
	l.mu.Lock()
	old := l.f
	l.f, l.failed = f, false
	l.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// write appends records. What cannot be written (a full disk) is lost rather
// than left to stop the container.
func (l *logFile) write(records []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return
	}
	_, err := l.f.Write(records)
	if err != nil && !l.failed && !errors.Is(err, os.ErrClosed) {
		log.Printf("container log %s: %v", l.path, err)
	}
	l.failed = err != nil
}

// liner turns a stream's bytes into log records.
type liner struct {
	stream  string // stdout or stderr
	pending []byte // a line that has not ended
}

// records returns the records that data completes; they are valid until the
// next call. At the end of the stream last is true and the rest is given, as a
// part of a line: readers give back what the container wrote, with no line feed.
func (n *liner) records(out, data []byte, now time.Time, last bool) []byte {
	for {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			break
		}
		line := data[:i]
		data = data[i+1:]
		for len(n.pending)+len(line) > maxLogLine {
			take := maxLogLine - len(n.pending)
			out = n.record(out, now, 'P', line[:take])
			line = line[take:]
		}
		out = n.record(out, now, 'F', line)
	}
	for len(n.pending)+len(data) > maxLogLine {
		take := maxLogLine - len(n.pending)
		out = n.record(out, now, 'P', data[:take])
		data = data[take:]
	}
	n.pending = append(n.pending, data...)
	if last && len(n.pending) > 0 {
		out = n.record(out, now, 'P', nil)
	}
	return out
}

// record appends one record of the pending bytes and more, and clears pending.
func (n *liner) record(out []byte, now time.Time, tag byte, more []byte) []byte {
	out = now.AppendFormat(out, logTime)
	out = append(out, ' ')
	out = append(out, n.stream...)
	out = append(out, ' ', tag, ' ')
	out = append(out, n.pending...)
	out = append(out, more...)
	out = append(out, '\n')
	n.pending = n.pending[:0]
	if cap(n.pending) > 4<<10 {
		n.pending = nil
	}
	return out
}
