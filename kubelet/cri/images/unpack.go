package images

import (
	"archive/tar"
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
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

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

const (
	maxEntries = 10_000_000
	// bombRatio is how much a layer may grow beyond bombFloor when it is
	// uncompressed; deflate cannot do more than about 1030.
	bombRatio = 1100
	bombFloor = 1 << 30
)

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

// errTooLarge ends the reading of a layer that is larger than it may be.
var errTooLarge = errors.New("uncompressed layer is larger than allowed")

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

// unpacker writes the entries of one layer below root, and never outside: the
// kernel resolves every name beneath the root's descriptor.
type unpacker struct {
	root  *os.Root
	dirs  map[string]bool // folders that exist
	named map[string]bool // folders that had an entry
	times []dirTime
	size  int64
}

type dirTime struct {
	name string
	at   time.Time
}

func (u *unpacker) run(r io.Reader) error {
	tr := tar.NewReader(r)
	buf := make([]byte, 64<<10)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if n >= maxEntries {
			return fmt.Errorf("%w: layer has more than %d entries", ErrInvalid, maxEntries)
		}
		if err := u.entry(h, tr, buf); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	// Last, since making what is inside changes a folder's time; innermost first.
	for i := len(u.times) - 1; i >= 0; i-- {
		t := u.times[i]
		if err := u.root.Chtimes(t.name, t.at, t.at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

const (
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

func (u *unpacker) entry(h *tar.Header, content io.Reader, buf []byte) error {
	name, err := localName(h.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	dir = path.Clean("./" + dir)
	if name != "." {
		if err := u.parents(dir); err != nil {
			return err
		}
	}
	if base == whiteoutOpaque {
		return u.withParent(name, func(fd int, _ string) error {
			return unix.Fsetxattr(fd, "trusted.overlay.opaque", []byte("y"), 0)
		})
	}
	if strings.HasPrefix(base, whiteout+whiteout) {
		return nil // bookkeeping of old storage drivers
	}
	if gone, ok := strings.CutPrefix(base, whiteout); ok {
		if gone == "" || gone == "." || gone == ".." {
			return fmt.Errorf("%w: whiteout of nothing", ErrInvalid)
		}
		target := path.Join(dir, gone)
		if _, err := u.root.Lstat(target); err == nil {
			return nil // this layer has put something in its place
		}
		return u.withParent(target, func(fd int, base string) error {
			return unix.Mknodat(fd, base, unix.S_IFCHR, 0)
		})
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeDir:
	default:
		if name == "." {
			return fmt.Errorf("%w: the root must be a folder", ErrInvalid)
		}
		// A later entry replaces an earlier one.
		if err := u.root.RemoveAll(name); err != nil {
			return err
		}
		u.forget(name)
	}
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		if st, err := u.root.Lstat(name); err == nil && !st.IsDir() {
			if err := u.root.Remove(name); err != nil {
				return err
			}
		}
		if !u.dirs[name] {
			if err := u.root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		u.dirs[name], u.named[name] = true, true
		u.times = append(u.times, dirTime{name, h.ModTime})
	case tar.TypeReg, tar.TypeGNUSparse:
		if err := u.file(name, h, content, buf); err != nil {
			return err
		}
	case tar.TypeLink:
		old, err := localName(h.Linkname)
		if err != nil {
			return err
		}
		return u.root.Link(old, name)
	case tar.TypeSymlink:
		// Any text may be a link's target: it is followed only in the container.
		return u.link(name, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if err := u.node(name, h); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: unknown type %q", ErrInvalid, h.Typeflag)
	}
	if err := u.root.Lchown(name, h.Uid, h.Gid); err != nil {
		return err
	}
	if err := u.xattrs(name, h); err != nil {
		return err
	}
	// After chown, which clears the set-id bits.
	if err := u.root.Chmod(name, mode.Perm()|mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeDir {
		return u.root.Chtimes(name, h.ModTime, h.ModTime)
	}
	return nil
}

// localName turns an entry's name into one relative to the root.
func localName(raw string) (string, error) {
	if strings.ContainsRune(raw, 0) {
		return "", fmt.Errorf("%w: name holds a zero byte", ErrInvalid)
	}
	for _, part := range strings.Split(raw, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w: name leaves the layer", ErrInvalid)
		}
	}
	return path.Clean("./" + strings.TrimLeft(raw, "/")), nil
}

func (u *unpacker) parents(dir string) error {
	if u.dirs[dir] {
		return nil
	}
	if err := u.parents(path.Dir(dir)); err != nil {
		return err
	}
	err := u.root.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		if st, serr := u.root.Lstat(dir); serr != nil || !st.IsDir() {
			return fmt.Errorf("%w: %s is not a folder", ErrInvalid, dir)
		}
		err = nil
	}
	if err == nil {
		u.dirs[dir] = true
	}
	return err
}

// forget drops what is known of folders at and below name.
func (u *unpacker) forget(name string) {
	if !u.dirs[name] {
		return
	}
	for d := range u.dirs {
		if d == name || strings.HasPrefix(d, name+"/") {
			delete(u.dirs, d)
			delete(u.named, d)
		}
	}
}

func (u *unpacker) file(name string, h *tar.Header, content io.Reader, buf []byte) error {
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, content, buf)
	u.size += n
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (u *unpacker) link(name string, h *tar.Header) error {
	return u.withParent(name, func(fd int, base string) error {
		if err := unix.Symlinkat(h.Linkname, fd, base); err != nil {
			return err
		}
		if err := unix.Fchownat(fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		t := unix.NsecToTimespec(h.ModTime.UnixNano())
		return unix.UtimesNanoAt(fd, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (u *unpacker) node(name string, h *tar.Header) error {
	mode := uint32(unix.S_IFIFO)
	dev := 0
	switch h.Typeflag {
	case tar.TypeChar:
		mode = unix.S_IFCHR
	case tar.TypeBlock:
		mode = unix.S_IFBLK
	}
	if h.Typeflag != tar.TypeFifo {
		dev = int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	}
	return u.withParent(name, func(fd int, base string) error { return unix.Mknodat(fd, base, mode|0o600, dev) })
}

// xattrs sets an entry's extended attributes. Overlayfs' own are not taken
// from images: they would point a mount elsewhere.
func (u *unpacker) xattrs(name string, h *tar.Header) error {
	const pax = "SCHILY.xattr."
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, pax)
		if !ok || strings.HasPrefix(attr, "trusted.overlay.") || strings.HasPrefix(attr, "user.overlay.") {
			continue
		}
		err := u.withParent(name, func(fd int, base string) error {
			return unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", fd, base), attr, []byte(value), 0)
		})
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			continue // a file system or security module that has no such attribute
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", attr, err)
		}
	}
	return nil
}

// withParent calls do with a descriptor of the folder that name is in.
func (u *unpacker) withParent(name string, do func(fd int, base string) error) error {
	dir, base := path.Split(name)
	d, err := u.root.Open(path.Clean("./" + dir))
	if err != nil {
		return err
	}
	defer d.Close()
	return do(int(d.Fd()), base)
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
