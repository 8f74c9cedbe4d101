package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// seen is what a container sees at a path.
type seen struct {
	Path string `json:"path"`
	// FS is the kind of the file system, where it is one that tests tell apart.
	FS string `json:"fs,omitempty"`
	// Perm is the mode without the file's type, such as -rw-r--r--; SetGID is
	// its bit of that name.
	Perm    string `json:"perm,omitempty"`
	SetGID  bool   `json:"setgid,omitempty"`
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Content string `json:"content,omitempty"`
	// Error is why there is nothing to see.
	Error string `json:"error,omitempty"`
}

// fileSystems are numbers of statfs(2).
var fileSystems = map[int64]string{0x01021994: "tmpfs", 0x958458f6: "hugetlbfs", 0x6969: "nfs"}

// look prints what there is at each path, one JSON object a line. It follows
// links, and does not fail where there is nothing.
func look(_ context.Context, paths []string) error {
	out := json.NewEncoder(os.Stdout)
	for _, p := range paths {
		if err := out.Encode(lookAt(p)); err != nil {
			return err
		}
	}
	return nil
}

func lookAt(path string) seen {
	s := seen{Path: path}
	fail := func(err error) seen { return seen{Path: path, Error: err.Error()} }
	info, err := os.Stat(path)
	if err != nil {
		return fail(err)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return fail(err)
	}
	s.FS, s.Perm, s.SetGID = fileSystems[int64(fs.Type)], info.Mode().Perm().String(), info.Mode()&os.ModeSetgid != 0
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.UID, s.GID = st.Uid, st.Gid
	}
	if info.Mode().IsRegular() {
		b, err := os.ReadFile(path)
		if err != nil {
			return fail(err)
		}
		s.Content = string(b)
	}
	return s
}

// create makes a file of a mode, whatever the umask, and looks at it.
func create(ctx context.Context, args []string) error {
	if err := need(args, 3, "create FILE MODE TEXT"); err != nil {
		return err
	}
	mode, err := strconv.ParseUint(args[1], 8, 9)
	if err != nil {
		return fmt.Errorf("mode %q: want octal digits: %w", args[1], err)
	}
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(args[2]); err != nil {
		return err
	}
	if err := f.Chmod(os.FileMode(mode)); err != nil {
		return err
	}
	return look(ctx, args[:1])
}
