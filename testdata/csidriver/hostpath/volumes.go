package hostpath

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// volume is what is written down of a volume.
type volume struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Size  int64  `json:"size"`
	Block bool   `json:"block"`
	// Ephemeral volumes live as long as they are published.
	Ephemeral bool `json:"ephemeral,omitempty"`
	// Attached says that the volume is attached to the node, ReadOnly how.
	Attached bool `json:"attached,omitempty"`
	ReadOnly bool `json:"readOnly,omitempty"`
	// Targets are where it is published.
	Targets []string `json:"targets,omitempty"`
	// Grown is the size that the node knows of.
	Grown int64 `json:"grown,omitempty"`
}

func (d *Driver) dir(id string) string      { return filepath.Join(d.cfg.Dir, id) }
func (d *Driver) data(v *volume) string     { return filepath.Join(d.dir(v.ID), "data") }
func (d *Driver) describe(id string) string { return filepath.Join(d.dir(id), "volume.json") }

// plain says whether an identifier is one name of a folder.
func plain(id string) bool {
	return id != "" && id != "." && id != ".." && len(id) <= 128 && !strings.ContainsAny(id, "/\x00")
}

// load reads a volume.
func (d *Driver) load(id string) (*volume, error) {
	if !plain(id) {
		return nil, status.Errorf(codes.NotFound, "there is no volume %q", id)
	}
	data, err := os.ReadFile(d.describe(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, status.Errorf(codes.NotFound, "there is no volume %q", id)
	}
	v := &volume{}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "read volume %s: %v", id, err)
	}
	return v, nil
}

// save writes a volume.
func (d *Driver) save(v *volume) error {
	data, err := json.Marshal(v)
	if err == nil {
		next := d.describe(v.ID) + ".next"
		if err = os.WriteFile(next, data, 0o600); err == nil {
			err = os.Rename(next, d.describe(v.ID))
		}
	}
	if err != nil {
		return status.Errorf(codes.Internal, "write volume %s: %v", v.ID, err)
	}
	return nil
}

// list reads all volumes.
func (d *Driver) list() ([]*volume, error) {
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	var out []*volume
	for _, e := range entries {
		v, err := d.load(e.Name())
		if status.Code(err) == codes.NotFound {
			continue // it is being made
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// create makes a volume's folder or file, and then the volume.
func (d *Driver) create(v *volume) error {
	err := os.MkdirAll(d.dir(v.ID), 0o750)
	if err == nil && v.Block {
		err = resizeFile(d.data(v), v.Size)
	} else if err == nil {
		if err = os.MkdirAll(d.data(v), 0o777); err == nil {
			err = os.Chmod(d.data(v), 0o777)
		}
	}
	if err != nil {
		return status.Errorf(codes.Internal, "make volume %s: %v", v.ID, err)
	}
	return d.save(v)
}

// resizeFile makes a sparse file of the size, never smaller than it is.
func resizeFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < size {
		err = f.Truncate(size)
	}
	return errors.Join(err, f.Close())
}

// remove deletes a volume.
func (d *Driver) remove(id string) error {
	if err := os.RemoveAll(d.dir(id)); err != nil {
		return status.Errorf(codes.Internal, "delete volume %s: %v", id, err)
	}
	return nil
}

// usage sums up what a folder holds.
func usage(dir string) (bytes, inodes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += st.Blocks * 512
		}
		inodes++
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("measure %s: %w", dir, err)
	}
	return bytes, inodes, nil
}
