// Package stopsignal knows the signals that end containers by the names that
// pods, images, the CRI and the kernel have for them.
package stopsignal

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What a real-time signal is called in the CRI, whose names hold no signs.
const (
	prefix = "SIGNAL_"
	plus   = "PLUS"
	minus  = "MINUS"
)

// The range of real-time signals that the C library leaves to programs.
const (
	realTimeMin = 34
	realTimeMax = 64
)

// ToCRI is the signal of a pod's or an image's name, such as SIGUSR1 or
// SIGRTMIN+3; the runtime's default where the CRI does not know it.
func ToCRI(name string) runtimeapi.Signal {
	name = strings.NewReplacer("+", plus, "-", minus).Replace(name)
	return runtimeapi.Signal(runtimeapi.Signal_value[prefix+name])
}

// FromCRI is the name that pods have for a signal, empty for the default.
func FromCRI(s runtimeapi.Signal) string {
	if s == runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		return ""
	}
	name := strings.TrimPrefix(s.String(), prefix)
	return strings.NewReplacer(plus, "+", minus, "-").Replace(name)
}

// Number is the kernel's number of a name or of a number, SIGTERM where it is
// neither.
func Number(name string) syscall.Signal {
	if s := unix.SignalNum(name); s != 0 {
		return s
	}
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= realTimeMax {
		return syscall.Signal(n)
	}
	for _, base := range []struct {
		name         string
		number, sign int
	}{{"SIGRTMIN", realTimeMin, 1}, {"SIGRTMAX", realTimeMax, -1}} {
		rest, ok := strings.CutPrefix(name, base.name)
		if !ok {
			continue
		}
		if rest == "" {
			return syscall.Signal(base.number)
		}
		if n, err := strconv.Atoi(strings.TrimLeft(rest, "+-")); err == nil && n <= realTimeMax-realTimeMin {
			return syscall.Signal(base.number + base.sign*n)
		}
	}
	return unix.SIGTERM
}
