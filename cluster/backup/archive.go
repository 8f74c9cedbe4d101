// Package backup writes and reads the archive of a control-plane node: its
// certificates, encryption keys, kubeconfigs, configuration, and the state of its
// store. It holds keys, so it is readable by root alone. Place is where archives
// are kept: a folder or a bucket.
package backup

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"skiff/cluster/layout"
)

// Database is the name of the store's snapshot in an archive.
const Database = "store/state.db"

// outside is the folder of an archive with files from anywhere on the machine,
// by their absolute paths.
const outside = "outside"

// maxFile bounds a file of an archive: more is no backup of skiff's.
const maxFile = 64 << 30

// sources are what an archive holds of a node, by the folder's name in it.
func sources(l layout.Layout) map[string]string {
	return map[string]string{
		"kubernetes": l.Kubernetes(), "node.yaml": l.NodeConfig(), "kubelet/config.yaml": filepath.Join(l.Kubelet(), "config.yaml"),
		"registries.yaml": l.Registries(),
	}
}

// Write makes an archive at out with the snapshot of the database and the files
// that the configuration names outside of the node's folders. The file appears
// whole or not at all.
func Write(l layout.Layout, snapshot string, files []string, out string) (err error) {
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists already: name a new file", out)
	}
	tmp := out + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(tmp)
		}
	}()
	z := gzip.NewWriter(f)
	t := tar.NewWriter(z)
	for name, from := range sources(l) {
		if err := add(t, name, from); err != nil {
			return fmt.Errorf("back up %s: %w", from, err)
		}
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("back up a file that the configuration names: %w", err)
		}
		if err := add(t, path.Join(outside, filepath.ToSlash(file)), file); err != nil {
			return fmt.Errorf("back up %s: %w", file, err)
		}
	}
	if err := add(t, Database, snapshot); err != nil {
		return fmt.Errorf("back up the database: %w", err)
	}
	for _, step := range []func() error{t.Close, z.Close, f.Sync} {
		if err := step(); err != nil {
			return err
		}
	}
	return os.Rename(tmp, out)
}

// add puts a file or folder into the archive. What does not exist is left out.
func add(t *tar.Writer, name, from string) error {
	return filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == from {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: path.Join(name, filepath.ToSlash(rel)), Mode: int64(info.Mode().Perm()), Size: info.Size(), ModTime: info.ModTime(), Typeflag: tar.TypeReg}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(t, f)
		return err
	})
}

// Read unpacks an archive to a node that does not exist yet, the state to where
// the embedded store is. Files that are shared with others, registries.yaml and
// those outside of the node's folders, stay when they are there.
func Read(l layout.Layout, in string) error {
	for _, p := range []string{l.NodeConfig(), l.Database(), filepath.Join(l.PKI(), "ca.crt")} {
		if _, err := os.Stat(p); err == nil {
			return fmt.Errorf("%s exists: a node was set up here; `skiff reset` removes it, or choose another place with --root", p)
		}
	}
	// All of it is looked at before anything is written.
	state := false
	err := each(l, in, func(h *tar.Header, _ string, _ io.Reader) error {
		state = state || h.Name == Database
		return nil
	})
	if err != nil {
		return err
	}
	if !state {
		return fmt.Errorf("%s holds no state of a cluster: take a newer backup, or restore the store by its own tools", in)
	}
	// The log of a database that was taken away would be played into this one.
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(l.Database() + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what is left of another database: %w", err)
		}
	}
	return each(l, in, func(h *tar.Header, to string, from io.Reader) error {
		if shared(l, h.Name, to) {
			if _, err := os.Stat(to); err == nil {
				return nil
			}
		}
		if err := extract(from, to, fs.FileMode(h.Mode).Perm()); err != nil {
			return fmt.Errorf("restore %s: %w", to, err)
		}
		return nil
	})
}

// shared tells whether a file is not the node's alone.
func shared(l layout.Layout, name, to string) bool {
	return to == l.Registries() || strings.HasPrefix(name, outside+"/")
}

// Undo removes what Read has unpacked, so that it can be done again.
func Undo(l layout.Layout, in string) error {
	var errs []error
	err := each(l, in, func(h *tar.Header, to string, _ io.Reader) error {
		if !shared(l, h.Name, to) {
			if err := os.Remove(to); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// each calls fn with every file of an archive and where it belongs.
func each(l layout.Layout, in string, fn func(h *tar.Header, to string, from io.Reader) error) error {
	f, err := os.Open(in)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s is no backup of skiff: %w", in, err)
	}
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s is damaged: %w", in, err)
		}
		to, ok := target(l, h.Name)
		if !ok || h.Typeflag != tar.TypeReg || h.Size > maxFile {
			return fmt.Errorf("%s is no backup of skiff: it holds %q", in, h.Name)
		}
		if err := fn(h, to, t); err != nil {
			return err
		}
	}
}

// target is where a file of the archive belongs. Names that lead elsewhere have none.
func target(l layout.Layout, name string) (string, bool) {
	if name != path.Clean(name) || !filepath.IsLocal(name) {
		return "", false
	}
	if name == Database {
		return l.Database(), true
	}
	if rest, ok := strings.CutPrefix(name, outside+"/"); ok {
		return "/" + rest, true
	}
	for prefix, to := range sources(l) {
		if name == prefix {
			return to, true
		}
		if rest, ok := strings.CutPrefix(name, prefix+"/"); ok {
			return filepath.Join(to, filepath.FromSlash(rest)), true
		}
	}
	return "", false
}

func extract(from io.Reader, to string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, from); err != nil {
		f.Close()
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
