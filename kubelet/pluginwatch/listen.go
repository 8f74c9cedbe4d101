package pluginwatch

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Listen makes the socket that plugins reach the kubelet by, in place of one
// that an earlier process left. Like Dial it goes through the open folder where
// the path is too long for an address.
func Listen(socket string) (net.Listener, error) {
	dir := filepath.Dir(socket)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	address := socket
	if len(socket) > maxAddress {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer func() { _ = unix.Close(fd) }()
		address = fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(socket))
	}
	l, err := net.Listen("unix", address)
	if err != nil {
		return nil, err
	}
	if l, ok := l.(*net.UnixListener); ok && address != socket {
		// The address is no path any more when the listener is closed.
		l.SetUnlinkOnClose(false)
	}
	return l, nil
}
