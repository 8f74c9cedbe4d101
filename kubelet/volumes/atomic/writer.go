// Package atomic writes a set of files into a folder so that a reader sees
// the old set or the new one, never a mixture: the files are in a folder named
// by time, "..data" links to it, and each visible name links through "..data".
package atomic

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// File is one file of the set.
type File struct {
	Data []byte
	Mode int32
	// Owner, when set, is the user that the file belongs to.
	Owner *int64
}

const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
)

// Write makes dir hold exactly the files, whose names are relative paths.
// Nothing is written when dir holds them already. group, when set, owns the
// files.
func Write(dir string, files map[string]File, group *int64) error {
	clean := make(map[string]File, len(files))
	for name, f := range files {
		p, err := validPath(name)
		if err != nil {
			return err
		}
		clean[p] = f
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	// The umask may have narrowed it.
	if err := os.Chmod(dir, 0o777|extraMode(group)); err != nil {
		return err
	}
	if group != nil {
		if err := os.Chown(dir, -1, int(*group)); err != nil {
			return err
		}
	}
	old, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && same(filepath.Join(dir, old), clean) {
		return links(dir, clean)
	}
	fresh, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return err
	}
	if err := fill(fresh, clean, group); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	tmp := filepath.Join(dir, newDataLink)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(fresh), tmp); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := os.Rename(tmp, filepath.Join(dir, dataLink)); err != nil {
		return errors.Join(err, os.Remove(tmp), os.RemoveAll(fresh))
	}
	if err := links(dir, clean); err != nil {
		return err
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(dir, filepath.Base(old)))
	}
	return nil
}

func extraMode(group *int64) os.FileMode {
	if group != nil {
		return os.ModeSetgid
	}
	return 0
}

func validPath(name string) (string, error) {
	switch {
	case name == "" || len(name) > 4096:
		return "", fmt.Errorf("invalid path %q: must be 1 to 4096 characters", name)
	case path.IsAbs(name):
		return "", fmt.Errorf("invalid path: must be relative path: %s", name)
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("invalid path: must not contain '..': %s", name)
		}
		if len(part) > 255 {
			return "", fmt.Errorf("invalid path: filenames must be less than 255 characters: %s", name)
		}
	}
	clean := path.Clean(name)
	if strings.HasPrefix(clean, "..") {
		return "", fmt.Errorf("invalid path: must not start with '..': %s", name)
	}
	return clean, nil
}

// same reports whether a folder holds exactly the files.
func same(dir string, files map[string]File) bool {
	found := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		want, ok := files[rel]
		if !ok {
			return fs.ErrExist
		}
		have, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, want.Data) {
			return fs.ErrExist
		}
		found++
		return nil
	})
	return err == nil && found == len(files)
}

func fill(dir string, files map[string]File, group *int64) error {
	if err := os.Chmod(dir, 0o755|extraMode(group)); err != nil {
		return err
	}
	if group != nil {
		if err := os.Chown(dir, -1, int(*group)); err != nil {
			return err
		}
	}
	for name, f := range files {
		full := filepath.Join(dir, name)
		if err := mkdirs(dir, filepath.Dir(name), group); err != nil {
			return err
		}
		if err := os.WriteFile(full, f.Data, 0o600); err != nil {
			return err
		}
		owner, gid := -1, -1
		if f.Owner != nil {
			owner = int(*f.Owner)
		}
		mode := os.FileMode(f.Mode) & 0o777
		if group != nil {
			gid = int(*group)
			mode |= 0o440
		}
		if owner >= 0 || gid >= 0 {
			if err := os.Chown(full, owner, gid); err != nil {
				return err
			}
		}
		if err := os.Chmod(full, mode); err != nil {
			return err
		}
	}
	return nil
}

func mkdirs(dir, rel string, group *int64) error {
	if rel == "." {
		return nil
	}
	at := dir
	for _, part := range strings.Split(rel, "/") {
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Chmod(at, 0o755|extraMode(group)); err != nil {
			return err
		}
		if group != nil {
			if err := os.Chown(at, -1, int(*group)); err != nil {
				return err
			}
		}
	}
	return nil
}

// links makes the visible names, and removes those that are no more.
func links(dir string, files map[string]File) error {
	want := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		want[first] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if want[e.Name()] {
			delete(want, e.Name())
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	for name := range want {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
