package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// LogConfig is a file of JSON lines.
type LogConfig struct {
	// Path of the file; "-" is the standard output.
	Path string
	// MaxSize in MiB at which the file is put aside (0: never), MaxBackups how
	// many of those are kept (0: all), and MaxAge in days how long (0: for ever).
	MaxSize, MaxBackups, MaxAge int
	// Compress packs the files that are put aside.
	Compress bool
	Truncate TruncateConfig
	Log      *slog.Logger
}

// logQueue bounds the events that wait for the disk; a full queue makes requests
// wait, as a record that may be lost is none.
const logQueue = 10000

// Log writes events to a file.
type Log struct {
	cfg   LogConfig
	queue chan *auditv1.Event
	aside chan struct{} // holds one where files were put aside

	mu   sync.Mutex // guards out and size
	out  io.Writer
	file *os.File
	size int64
}

// NewLog opens the file.
func NewLog(c LogConfig) (*Log, error) {
	if c.Path == "" {
		return nil, errors.New("audit log: the path is empty: give --audit-log-path")
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	l := &Log{cfg: c, queue: make(chan *auditv1.Event, logQueue), aside: make(chan struct{}, 1)}
	if c.Path == "-" {
		l.out = os.Stdout
		return l, nil
	}
	return l, l.open()
}

func (l *Log) open() error {
	if err := os.MkdirAll(filepath.Dir(l.cfg.Path), 0o700); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	f, err := os.OpenFile(l.cfg.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("audit log: %w", err)
	}
	l.file, l.out, l.size = f, f, info.Size()
	return nil
}

// Record queues an event.
func (l *Log) Record(ctx context.Context, e *auditv1.Event) error {
	select {
	case l.queue <- e:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run writes until ctx ends, and then what is still queued.
func (l *Log) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(l.aside)
	defer func() {
		if l.file != nil {
			l.file.Close()
		}
	}()
	if l.file != nil {
		l.tidySoon() // what an earlier run left
		wg.Go(l.tidy)
	}
	for {
		select {
		case e := <-l.queue:
			l.write(e)
		case <-ctx.Done():
			for {
				select {
				case e := <-l.queue:
					l.write(e)
				default:
					return nil
				}
			}
		}
	}
}

func (l *Log) write(e *auditv1.Event) {
	b := l.cfg.Truncate.encode(e, l.cfg.Log)
	if b == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.rotate(int64(len(b) + 1)); err != nil {
		l.cfg.Log.Error("audit log cannot be put aside", "path", l.cfg.Path, "err", err)
	}
	n, err := l.out.Write(append(b, '\n'))
	l.size += int64(n)
	if err != nil {
		l.cfg.Log.Error("audit event is lost", "path", l.cfg.Path, "id", e.AuditID, "err", err)
	}
}

// rotate puts the file aside when what comes would make it too large.
func (l *Log) rotate(next int64) error {
	if l.file == nil || l.cfg.MaxSize == 0 || l.size == 0 || l.size+next <= int64(l.cfg.MaxSize)<<20 {
		return nil
	}
	if err := l.file.Close(); err != nil {
		return err
	}
	base, ext := l.names()
	if err := os.Rename(l.cfg.Path, base+"-"+time.Now().UTC().Format("2006-01-02T15-04-05.000")+ext); err != nil {
		return err
	}
	l.tidySoon()
	return l.open()
}

// names are what the files that were put aside begin and end with.
func (l *Log) names() (base, ext string) {
	ext = filepath.Ext(l.cfg.Path)
	return l.cfg.Path[:len(l.cfg.Path)-len(ext)], ext
}
