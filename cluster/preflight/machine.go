package preflight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Root wants user 0.
func Root() Check {
	return Check{Name: "IsPrivilegedUser", Run: func(context.Context) (warnings, errs []error) {
		if os.Geteuid() != 0 {
			return fails("user is not running as root: run it with sudo")
		}
		return nil, nil
	}}
}

// Port wants that nothing listens on port of address ("" for any).
func Port(address string, port int) Check {
	return Check{Name: fmt.Sprintf("Port-%d", port), Run: func(ctx context.Context) (warnings, errs []error) {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(address, fmt.Sprint(port)))
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			return fails("port %d is in use: stop what listens there (`ss -ltnp sport = :%d` names it), or choose another port", port, port)
		case err != nil:
			return fails("cannot listen on port %d: %w", port, err)
		}
		l.Close()
		return nil, nil
	}}
}

// FilesAbsent wants that init or join did not run here before.
func FilesAbsent(paths ...string) []Check {
	checks := make([]Check, len(paths))
	for i, path := range paths {
		checks[i] = Check{Name: "FileAvailable-" + strings.ReplaceAll(strings.Trim(path, "/"), "/", "-"), Run: func(context.Context) (warnings, errs []error) {
			if _, err := os.Stat(path); err == nil {
				return fails("%s already exists: a node was set up here before; run `skiff reset` first", path)
			}
			return nil, nil
		}}
	}
	return checks
}

// DirEmpty wants that path holds nothing.
func DirEmpty(path string) Check {
	return Check{Name: "DirAvailable-" + strings.ReplaceAll(strings.Trim(path, "/"), "/", "-"), Run: func(context.Context) (warnings, errs []error) {
		entries, err := os.ReadDir(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return fails("read %s: %w", path, err)
		}
		if len(entries) > 0 {
			return fails("%s is not empty: run `skiff reset` first", path)
		}
		return nil, nil
	}}
}

// Executables wants programs in PATH. pkg is the Debian package that has them.
func Executables(pkg string, names ...string) []Check {
	checks := make([]Check, len(names))
	for i, name := range names {
		checks[i] = Check{Name: "FileExisting-" + name, Run: func(context.Context) (warnings, errs []error) {
			if _, err := exec.LookPath(name); err != nil {
				return fails("%s not found in system path: install the package %s", name, pkg)
			}
			return nil, nil
		}}
	}
	return checks
}

// FreeSpace wants bytes free at the first folder of path that exists.
func FreeSpace(path string, bytes uint64) Check {
	return Check{Name: "FreeSpace", Run: func(context.Context) (warnings, errs []error) {
		dir := path
		for {
			var st unix.Statfs_t
			err := unix.Statfs(dir, &st)
			if errors.Is(err, unix.ENOENT) && dir != "/" {
				dir = filepath.Dir(dir)
				continue
			}
			if err != nil {
				return fails("look at the free space of %s: %w", dir, err)
			}
			if free := st.Bavail * uint64(st.Bsize); free < bytes {
				return fails("%s has %d MiB free, %d MiB are needed: free some space, or choose another place with --root", dir, free>>20, bytes>>20)
			}
			return nil, nil
		}
	}}
}

// Swap warns when swap is on.
func Swap() Check {
	return Check{Name: "Swap", Run: func(context.Context) (warnings, errs []error) {
		data, err := os.ReadFile("/proc/swaps")
		if err == nil && bytes.Count(data, []byte("\n")) > 1 {
			return []error{errors.New("swap is on: pods may use it only as memorySwap in the kubelet's configuration says")}, nil
		}
		return nil, nil
	}}
}

// HostName wants a name that can be a node's, and warns when it cannot be resolved.
func HostName(name string) Check {
	return Check{Name: "Hostname", Run: func(ctx context.Context) (warnings, errs []error) {
		// A machine without a name server answers only after a long time-out,
		// and all that comes of this is a warning.
		ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if _, err := net.DefaultResolver.LookupHost(ctx, name); err != nil {
			return []error{fmt.Errorf("hostname %q could not be reached", name)}, nil
		}
		return nil, nil
	}}
}

// Time warns when the clock is before the day skiff's certificates can start.
func Time(now func() int64, notBefore int64) Check {
	return Check{Name: "Clock", Run: func(context.Context) (warnings, errs []error) {
		if now() < notBefore {
			return fails("the machine's clock is wrong (it is before this program was made): set the time, or certificates will not be valid")
		}
		return nil, nil
	}}
}
