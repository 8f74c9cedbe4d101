// Package shimbin carries the pod shim inside skiff and hands it out as a sealed
// memory file, which no process can change, not even a container's init that
// is run from it.
//
// The shim is built into the folder files of this package before skiff is, with the
// JSON package that keeps less for the types of a container's configuration:
//
//	CGO_ENABLED=1 GOEXPERIMENT=jsonv2 go build -tags 'seccomp osusergo netgo' \
//	  -ldflags '-s -w -linkmode external -extldflags -static' \
//	  -o bin/shim ./kubelet/cri/shim
//	zstd --ultra -22 bin/shim -o kubelet/cri/shimbin/files/shim.zst
package shimbin

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

//go:embed all:files
var files embed.FS

// ErrMissing says that skiff was built without its shim.
var ErrMissing = errors.New("this skiff was built without its pod shim, so it cannot run containers; build it with make build")

// minFD keeps the file away from the descriptors that a child is given.
const minFD = 64

// maxShim bounds the unpacked shim.
const maxShim = 64 << 20

// embedded unpacks the shim that skiff was built with.
func embedded() ([]byte, error) {
	packed, err := fs.ReadFile(files, "files/shim.zst")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrMissing
	}
	if err != nil {
		return nil, err
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxShim), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.DecodeAll(packed, nil)
}

// Open returns the shim as a sealed memory file: the one at path, or with an
// empty path the embedded one. The file is the caller's, and its name is a path
// that this process and its children can run it by.
func Open(path string) (*os.File, error) {
	var data []byte
	var err error
	if path != "" {
		data, err = os.ReadFile(path)
	} else {
		data, err = embedded()
	}
	if err != nil {
		return nil, fmt.Errorf("pod shim: %w", err)
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("skiff-shim", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3
		fd, err = unix.MemfdCreate("skiff-shim", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("pod shim: make memory file: %w", err)
	}
	defer unix.Close(fd)
	for rest := data; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			return nil, fmt.Errorf("pod shim: write memory file: %w", err)
		}
		rest = rest[n:]
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("pod shim: seal memory file: %w", err)
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, minFD)
	if err != nil {
		return nil, fmt.Errorf("pod shim: %w", err)
	}
	return os.NewFile(uintptr(high), fmt.Sprintf("/proc/self/fd/%d", high)), nil
}
