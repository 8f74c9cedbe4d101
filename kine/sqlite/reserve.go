package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"skiff/kine"
)

const (
	// maxReserve is the size of the reserve, or one in diskShare of a small disk.
	maxReserve = 8 << 20
	diskShare  = 16
	// ampleBytes are so many that nobody fills them between two groups.
	ampleBytes = 256 << 20
	pageBytes  = 4096
)

// errFull is why puts are refused while the disk is full.
var errFull = fmt.Errorf("%w: the disk is full: free some space, or delete objects, for which there is room", kine.ErrNoSpace)

// reserve is space of the disk that a file without content keeps from others. Deletes,
// compaction and the copying of the write-ahead log need some space before they give any
// back: on a full disk they get it from here, and it is taken back after each of them.
type reserve struct {
	path  string
	bytes int64
	// full tells that the disk was found full, and that there is not enough space yet.
	full bool
}

// open finds out how large the reserve of a database is. It is not taken yet.
func (r *reserve) open(database string) error {
	var st unix.Statfs_t
	dir := filepath.Dir(database)
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	disk := int64(min(st.Blocks, 1<<40)) * st.Bsize
	*r = reserve{path: database + ".reserve", bytes: min(maxReserve, disk/diskShare) / pageBytes * pageBytes}
	return r.release()
}

// take takes the space. The disk is not full when there is as much again for puts; a full
// one gives what it has.
func (r *reserve) take() error {
	if r.bytes == 0 {
		r.full = false
		return nil
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("reserve of the disk: %w", err)
	}
	defer f.Close()
	for size := 2 * r.bytes; size >= pageBytes; size /= 2 {
		err = allocate(f, size)
		if err == nil && size > r.bytes {
			r.full = false
			return f.Truncate(r.bytes)
		}
		r.full = true
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		r.bytes, r.full = 0, false // this file system cannot keep space
		return r.release()
	case err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT):
		return fmt.Errorf("reserve of the disk: %w", err)
	}
	return nil
}

func allocate(f *os.File, bytes int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, bytes); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// release gives the space to what needs it.
func (r *reserve) release() error {
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reserve of the disk: %w", err)
	}
	return nil
}

// onReserve does something with the space of the reserve, and with that of the write-ahead
// log, which is brought into the database before and after it.
func (w *writer) onReserve(do func()) {
	if err := w.s.reserve.release(); err != nil {
		w.s.cfg.Log.Warn("the disk is full and its reserve cannot be used", "err", err)
	}
	w.checkpoint("TRUNCATE")
	do()
	w.checkpoint("TRUNCATE")
	w.takeReserve()
}

// takeReserve finds out whether the disk is still full.
func (w *writer) takeReserve() {
	if err := w.s.reserve.take(); err != nil {
		w.s.cfg.Log.Warn("the reserve for a full disk cannot be taken; it is tried again", "err", err)
	}
	switch {
	case w.s.reserve.full:
		w.noteCommit(errFull)
	case w.s.Failing() != nil:
		w.probe() // not every file system keeps space for a file, though it says so
	}
}

// growing tells whether the write-ahead log holds more new pages of the database than
// there is certainly room for, so that it has to be copied now.
func (w *writer) growing() bool {
	most := int(w.s.reserve.bytes / pageBytes / 4 * 3)
	if most == 0 || w.pages-w.copied < most {
		return false
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(w.s.cfg.Path), &st); err != nil || int64(min(st.Bavail, 1<<40))*st.Bsize >= ampleBytes {
		return false
	}
	var pages int64
	if err := w.pageCount.QueryRow().Scan(&pages); err != nil {
		return false // the next commit tells more
	}
	info, err := os.Stat(w.s.cfg.Path)
	return err == nil && pages-info.Size()/pageBytes >= int64(most)
}
