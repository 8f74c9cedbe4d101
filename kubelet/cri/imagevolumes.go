package cri

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// imageVolumes are the mounts of the folders that the image declares as volumes and the
// pod gives nothing for. Each is there, even where no layer has it, and can be written,
// even where the root cannot: what the image has there, and what is written, is in the
// container's own layer, counts as its disk and goes with it.
// https://github.com/opencontainers/image-spec/blob/main/config.md, "Volumes"
func (b *specBuilder) imageVolumes(given map[string]bool) ([]specs.Mount, error) {
	var out []specs.Mount
	for _, name := range slices.Sorted(maps.Keys(b.image.Config.Volumes)) {
		at := path.Clean("/" + name)
		if at == "/" || given[at] {
			continue
		}
		host, err := b.folder(at)
		if err != nil {
			return nil, fmt.Errorf("volume %s of the image: %w", at, err)
		}
		out = append(out, bind(host, at, "rbind", "rprivate", "rw"))
	}
	return out, nil
}

// folder is the host's path of a folder of the container's root; it is made where it is
// missing. No link leads out of the root.
func (b *specBuilder) folder(at string) (string, error) {
	missing := "."
	for {
		host, err := openDirIn(b.root(), at)
		if errors.Is(err, fs.ErrNotExist) && at != "/" {
			missing, at = path.Join(path.Base(at), missing), path.Dir(at)
			continue
		}
		if err != nil || missing == "." {
			return host, err
		}
		root, err := os.OpenRoot(host)
		if err != nil {
			return "", err
		}
		defer root.Close()
		if err := root.MkdirAll(missing, 0o755); err != nil {
			return "", err
		}
		if u := b.sandbox.namespaces().GetUsernsOptions(); mapped(u) {
			for p := missing; p != "."; p = path.Dir(p) {
				if err := root.Lchown(p, int(u.Uids[0].HostId), int(u.Gids[0].HostId)); err != nil {
					return "", err
				}
			}
		}
		return filepath.Join(host, missing), nil
	}
}
