package nfacct

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"skiff/proxy/packettest"
)

func TestCounter(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	w := packettest.NewWorld(t)
	w.Node.Must(t, func() error {
		const name = "skiff_test"
		switch err := Ensure(name); {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			t.Skip("the kernel has no nfnetlink_acct")
		case err != nil:
			return err
		}
		if err := Ensure(name); err != nil {
			t.Errorf("a counter that is there: %v", err)
		}
		if n, err := Packets(name); n != 0 || err != nil {
			t.Errorf("%d packets, %v", n, err)
		}
		if err := Delete(name); err != nil {
			t.Error(err)
		}
		if err := Delete(name); err != nil {
			t.Errorf("a counter that is gone: %v", err)
		}
		if _, err := Packets(name); !errors.Is(err, unix.ENOENT) {
			t.Errorf("a counter that is gone has %v", err)
		}
		return nil
	})
}
