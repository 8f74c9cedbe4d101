package audit

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// packed is the ending of files that were packed.
const packed = ".gz"

// tidySoon asks for the files that were put aside to be looked at.
func (l *Log) tidySoon() {
	select {
	case l.aside <- struct{}{}:
	default:
	}
}

// tidy removes and packs files that were put aside, until the log ends. Events are
// written meanwhile.
func (l *Log) tidy() {
	for range l.aside {
		if err := errors.Join(l.prune(), l.pack()); err != nil {
			l.cfg.Log.Error("audit log: a file that was put aside cannot be packed or removed", "path", l.cfg.Path, "err", err)
		}
	}
}

// putAside are the files, oldest first.
func (l *Log) putAside() ([]string, error) {
	base, ext := l.names()
	plain, err := filepath.Glob(base + "-*" + ext)
	if err != nil {
		return nil, err
	}
	small, err := filepath.Glob(base + "-*" + ext + packed)
	if err != nil {
		return nil, err
	}
	all := append(plain, small...)
	slices.Sort(all) // the names are in order of time
	return slices.Compact(all), nil
}

// prune removes what is too old and what there is too much of.
func (l *Log) prune() error {
	old, err := l.putAside()
	if err != nil {
		return err
	}
	for i, path := range old {
		tooMany := l.cfg.MaxBackups > 0 && len(old)-i > l.cfg.MaxBackups
		info, err := os.Stat(path)
		tooOld := err == nil && l.cfg.MaxAge > 0 && time.Since(info.ModTime()) > time.Duration(l.cfg.MaxAge)*24*time.Hour
		if tooMany || tooOld {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// pack compresses what is not packed yet.
func (l *Log) pack() error {
	if !l.cfg.Compress {
		return nil
	}
	files, err := l.putAside()
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range files {
		if !strings.HasSuffix(path, packed) {
			errs = append(errs, packFile(path))
		}
	}
	return errors.Join(errs...)
}

// packFile puts a packed file in the place of a plain one. Until it is whole it has
// another name.
func packFile(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	part := path + packed + ".part"
	out, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part))
		}
	}()
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Sync(), out.Close()); err != nil {
		return err
	}
	// Its age is that of what it holds.
	if err = os.Chtimes(part, info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	if err = os.Rename(part, path+packed); err != nil {
		return err
	}
	return os.Remove(path)
}
