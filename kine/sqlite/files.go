package sqlite

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// files are the database and its log as they were opened. What is written after they
// were taken away from their names is gone at the next start.
type files struct {
	path   string
	opened map[string]inode
}

type inode struct{ device, number uint64 }

func lookUp(path string) (inode, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return inode{}, err
	}
	return inode{st.Dev, st.Ino}, nil
}

// open remembers the files. SQLite has opened them.
func (f *files) open(path string) error {
	f.path, f.opened = path, map[string]inode{}
	for _, name := range []string{path, path + "-wal"} {
		at, err := lookUp(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.opened[name] = at
	}
	return nil
}

// check tells whether the files are still in their places.
func (f *files) check() error {
	for name, was := range f.opened {
		if at, err := lookUp(name); err != nil || at != was {
			return fmt.Errorf("%s was moved, deleted or replaced while the store has it open: put it back, or stop the server and restore a backup", name)
		}
	}
	return nil
}
