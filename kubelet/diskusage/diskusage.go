// Package diskusage counts what folders take on their file system.
package diskusage

import (
	"io/fs"
	"path/filepath"
	"syscall"
)

// Usage is what files take: bytes of whole blocks, and inodes.
type Usage struct {
	Bytes, Inodes uint64
}

// Add is the use of both.
func (u Usage) Add(v Usage) Usage {
	return Usage{Bytes: u.Bytes + v.Bytes, Inodes: u.Inodes + v.Inodes}
}

// Of walks a file or a folder, not what is mounted below it. A file with several names
// counts once, and what vanishes while it is counted is no error.
func Of(path string) Usage {
	var out Usage
	seen := make(map[uint64]bool)
	var device uint64
	_ = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if out.Inodes == 0 {
			device = st.Dev
		}
		if st.Dev != device {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if st.Nlink > 1 && !e.IsDir() {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		out.Inodes++
		out.Bytes += uint64(st.Blocks) * 512
		return nil
	})
	return out
}
