package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxEntries = 10_000_000
	// bombRatio is how much a layer may grow beyond bombFloor when it is
	// uncompressed; deflate cannot do more than about 1030.
	bombRatio = 1100
	bombFloor = 1 << 30
)

// errTooLarge ends the reading of a layer that is larger than it may be.
var errTooLarge = errors.New("uncompressed layer is larger than allowed")

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
