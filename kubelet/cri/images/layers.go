package images

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// layerName is a layer's folder below the layers.
func layerName(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(len(hex), 24)]
}

// layerInfo is kept beside an unpacked layer.
type layerInfo struct {
	Digest string `json:"digest"`
	// Implicit are the folders the layer has no entry for; they take their mode
	// and owner from the layers below.
	Implicit []string `json:"implicit,omitempty"`
	Size     int64    `json:"size"`
}

func (s *Store) hasLayer(digest string) bool {
	_, err := os.Stat(filepath.Join(s.LayerRoot(), layerName(digest), "layer.json"))
	return err == nil
}

// unpackBlob unpacks a stored blob as the layer with the given uncompressed digest.
func (s *Store) unpackBlob(blob, digest string) error {
	f, err := os.Open(s.blobPath(blob))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	plain, err := decompress(f)
	if err != nil {
		return fmt.Errorf("layer %s: %w", blob, err)
	}
	defer plain.Close()
	limit := s.cfg.MaxLayerSize
	if grown := max(st.Size()*bombRatio, bombFloor); grown < limit {
		limit = grown
	}
	if err := s.unpackLayer(plain, digest, limit); err != nil {
		return fmt.Errorf("failed to extract layer %s: %w", digest, err)
	}
	return nil
}

func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 128<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(br)
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(512<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(br), nil
}

type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}

// unpackLayer writes a layer's tar stream into its folder and verifies the
// stream's digest. The folder appears only when all is right.
func (s *Store) unpackLayer(r io.Reader, digest string, limit int64) (err error) {
	temp, err := os.MkdirTemp(s.LayerRoot(), tempPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(temp)
		}
	}()
	top := filepath.Join(temp, "fs")
	if err := os.Mkdir(top, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return err
	}
	defer root.Close()
	hash := sha256.New()
	in := io.TeeReader(&limited{r: r, left: limit}, hash)
	u := &unpacker{root: root, dirs: map[string]bool{".": true}, named: map[string]bool{}}
	if err := u.run(in); err != nil {
		return err
	}
	// Bytes behind the archive's end count for the digest.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); got != digest {
		return fmt.Errorf("%w: uncompressed content has the digest %s", ErrInvalid, got)
	}
	info := layerInfo{Digest: digest, Size: u.size}
	for dir := range u.dirs {
		if !u.named[dir] {
			info.Implicit = append(info.Implicit, dir)
		}
	}
	data, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, "layer.json"), data, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	// One flush for the whole layer instead of one per file.
	if d, derr := os.Open(temp); derr == nil {
		err = unix.Syncfs(int(d.Fd()))
		d.Close()
		if err != nil {
			return err
		}
	}
	target := filepath.Join(s.LayerRoot(), layerName(digest))
	err = os.Rename(temp, target)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		os.RemoveAll(temp)
		return nil
	}
	return err
}

// settle gives the folders that a layer does not describe the mode and owner
// they have in the layers below. It is done once per layer, by the first image
// that brings it.
func (s *Store) settle(layers []string) error {
	for i, digest := range layers {
		file := filepath.Join(s.LayerRoot(), layerName(digest), "layer.json")
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var info layerInfo
		if err := json.Unmarshal(data, &info); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if len(info.Implicit) == 0 {
			continue
		}
		for _, dir := range info.Implicit {
			for below := i - 1; below >= 0; below-- {
				done, err := s.copyMode(layers[below], digest, dir)
				if err != nil {
					return err
				}
				if done {
					break
				}
			}
		}
		info.Implicit = nil
		if data, err = json.Marshal(info); err != nil {
			return err
		}
		if err := os.WriteFile(file+".new", data, 0o600); err != nil {
			return err
		}
		if err := os.Rename(file+".new", file); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) copyMode(from, to, dir string) (bool, error) {
	src, err := os.OpenRoot(filepath.Join(s.LayerRoot(), layerName(from), "fs"))
	if err != nil {
		return false, err
	}
	defer src.Close()
	st, err := src.Lstat(dir)
	if err != nil || !st.IsDir() {
		return false, nil
	}
	dst, err := os.OpenRoot(filepath.Join(s.LayerRoot(), layerName(to), "fs"))
	if err != nil {
		return false, err
	}
	defer dst.Close()
	uid, gid := 0, 0
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		uid, gid = int(sys.Uid), int(sys.Gid)
	}
	if err := dst.Lchown(dir, uid, gid); err != nil {
		return false, err
	}
	return true, dst.Chmod(dir, st.Mode().Perm()|st.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
}
