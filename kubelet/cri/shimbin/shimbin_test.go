package shimbin

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// The file that containers' first process is run from cannot be written to by
// anyone, root and whoever holds it open included: what a container would put there
// would run on the host the next time (CVE-2019-5736).
//
// Covers: node.containers
func TestShimIsSealed(t *testing.T) {
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []int{os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND} {
		w, err := os.OpenFile(f.Name(), flag, 0)
		if err != nil {
			continue
		}
		if _, err := w.Write([]byte("#!/bin/sh\n")); !errors.Is(err, unix.EPERM) {
			t.Errorf("opened with %#x it was written to: %v", flag, err)
		}
		w.Close()
	}
	if err := os.Truncate(f.Name(), 0); err == nil {
		t.Error("it was cut off")
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); !errors.Is(err, unix.EPERM) {
		t.Errorf("its seals can be changed: %v", err)
	}
	if got, err := os.ReadFile(f.Name()); err != nil || string(got) != string(want) {
		t.Errorf("it is %d bytes, %v, and was %d", len(got), err, len(want))
	}
	if err := exec.Command(f.Name()).Run(); err != nil {
		t.Errorf("it cannot be run: %v", err)
	}
}
