package chaos

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// disk is a folder in memory that forgets at a power loss what was not synced.
type disk struct {
	mu    sync.Mutex
	files map[string]*diskFile
	// refused is how writes fail, and refusedSync how syncs do.
	refused, refusedSync syscall.Errno
	// refusals counts them.
	refusals int
}

// refusedSoFar says how many writes and syncs have failed.
func (d *disk) refusedSoFar() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refusals
}

// refuse makes the disk fail writes and syncs, or work again.
func (d *disk) refuse(write, sync syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused, d.refusedSync = write, sync
}

// diskFile has the content that reads see, the one that is safe, and the writes
// between the two.
type diskFile struct {
	content, safe []byte
	writes        []diskWrite
	// kept tells that the file itself survives.
	kept bool
}

// diskWrite is a write, or where data is nil a new size.
type diskWrite struct {
	at   int64
	data []byte
}

func (w *diskWrite) apply(content []byte) []byte {
	end := w.at
	if w.data != nil {
		end += int64(len(w.data))
	} else if int64(len(content)) > end {
		return content[:end]
	}
	if grow := end - int64(len(content)); grow > 0 {
		content = append(content, make([]byte, grow)...)
	}
	copy(content[w.at:], w.data)
	return content
}

func (f *diskFile) write(w diskWrite) {
	f.content = w.apply(f.content)
	f.writes = append(f.writes, w)
}

func (f *diskFile) sync() {
	f.safe, f.writes, f.kept = slices.Clone(f.content), nil, true
}

// sector is what a disk writes whole.
const sector = 512

// losePower forgets what was not synced: all of it, or what a disk that was in the
// middle of it has not written yet, which may be any part in any order.
func (d *disk) losePower(all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, f := range d.files {
		if !f.kept {
			delete(d.files, name)
			continue
		}
		content := slices.Clone(f.safe)
		for _, w := range f.writes {
			if all {
				break
			}
			if w.data == nil {
				if rand.IntN(2) == 0 {
					content = w.apply(content)
				}
				continue
			}
			for at := 0; at < len(w.data); at += sector {
				if rand.IntN(2) == 0 {
					part := diskWrite{w.at + int64(at), w.data[at:min(at+sector, len(w.data))]}
					content = part.apply(content)
				}
			}
		}
		f.content, f.safe, f.writes = content, slices.Clone(content), nil
	}
}

// mount shows the disk at a folder until unmount.
func (d *disk) mount(t *testing.T, dir string) (unmount func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	server, err := fs.Mount(dir, &diskRoot{disk: d}, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "lossy", Name: "lossy"}})
	if err != nil {
		t.Skipf("a file system of this process cannot be mounted here: %v", err)
	}
	return func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
		server.Wait()
	}
}

type diskRoot struct {
	fs.Inode
	disk *disk
}

func (r *diskRoot) child(ctx context.Context, f *diskFile, out *fuse.EntryOut) *fs.Inode {
	n := &diskNode{disk: r.disk, f: f}
	n.attr(&out.Attr)
	return r.NewInode(ctx, n, fs.StableAttr{Mode: syscall.S_IFREG})
}

func (r *diskRoot) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	f := r.disk.files[name]
	if f == nil {
		return nil, syscall.ENOENT
	}
	if known := r.GetChild(name); known != nil {
		known.Operations().(*diskNode).attr(&out.Attr)
		return known, 0
	}
	return r.child(ctx, f, out), 0
}

func (r *diskRoot) Create(ctx context.Context, name string, _, _ uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	f := &diskFile{}
	r.disk.files[name] = f
	return r.child(ctx, f, out), nil, 0, 0
}

func (r *diskRoot) Unlink(_ context.Context, name string) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	delete(r.disk.files, name)
	return 0
}

// Fsync of the folder makes its entries safe, and not what the files hold.
func (r *diskRoot) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	r.disk.mu.Lock()
	defer r.disk.mu.Unlock()
	for _, f := range r.disk.files {
		f.kept = true
	}
	return 0
}

func (r *diskRoot) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = syscall.S_IFDIR | 0o700
	return 0
}

type diskNode struct {
	fs.Inode
	disk *disk
	f    *diskFile
}

// attr needs the disk's mu.
func (n *diskNode) attr(out *fuse.Attr) {
	out.Mode, out.Size, out.Nlink = syscall.S_IFREG|0o600, uint64(len(n.f.content)), 1
}

func (n *diskNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	n.attr(&out.Attr)
	return 0
}

func (n *diskNode) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if size, ok := in.GetSize(); ok {
		n.f.write(diskWrite{at: int64(size)})
	}
	n.attr(&out.Attr)
	return 0
}

func (n *diskNode) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (n *diskNode) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if off >= int64(len(n.f.content)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, n.f.content[off:])]), 0
}

func (n *diskNode) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.disk.refused != 0 {
		n.disk.refusals++
		return 0, n.disk.refused
	}
	n.f.write(diskWrite{off, append([]byte{}, data...)})
	return uint32(len(data)), 0
}

func (n *diskNode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.disk.refusedSync != 0 {
		n.disk.refusals++
		return n.disk.refusedSync
	}
	n.f.sync()
	return 0
}

func (n *diskNode) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }
