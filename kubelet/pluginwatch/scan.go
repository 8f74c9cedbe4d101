package pluginwatch

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
)

// identity tells a socket from one that is made at the same place later.
type identity struct {
	inode    uint64
	modified syscall.Timespec
}

// scan finds the sockets and folders below dir. Names with a leading dot are
// left out: a plugin makes its socket under one to move it in place.
func scan(dir string) (sockets map[string]identity, folders []string, err error) {
	sockets = map[string]identity{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		if err != nil {
			return err
		}
		if path != dir && strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			folders = append(folders, path)
			return nil
		}
		if d.Type()&fs.ModeSocket == 0 {
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sockets[path] = identity{inode: st.Ino, modified: st.Mtim}
		}
		return nil
	})
	return sockets, folders, err
}

// step is what to do about one socket.
type step struct {
	socket string
	// begin a registration, after the end of one of an earlier socket there.
	begin, end bool
}

// plan compares the sockets there are with those being served.
func plan(seen, served map[string]identity) []step {
	var out []step
	for socket := range served {
		if _, ok := seen[socket]; !ok {
			out = append(out, step{socket: socket, end: true})
		}
	}
	for socket, id := range seen {
		old, ok := served[socket]
		if !ok || old != id {
			out = append(out, step{socket: socket, begin: true, end: ok})
		}
	}
	return out
}
