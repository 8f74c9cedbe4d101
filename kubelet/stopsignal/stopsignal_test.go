package stopsignal

import (
	"syscall"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSignals(t *testing.T) {
	tests := map[string]struct {
		cri    runtimeapi.Signal
		number syscall.Signal
	}{
		"SIGTERM":     {runtimeapi.Signal_SIGNAL_SIGTERM, syscall.SIGTERM},
		"SIGUSR1":     {runtimeapi.Signal_SIGNAL_SIGUSR1, syscall.SIGUSR1},
		"SIGRTMIN":    {runtimeapi.Signal_SIGNAL_SIGRTMIN, 34},
		"SIGRTMIN+3":  {runtimeapi.Signal_SIGNAL_SIGRTMINPLUS3, 37},
		"SIGRTMAX-14": {runtimeapi.Signal_SIGNAL_SIGRTMAXMINUS14, 50},
		"SIGRTMAX":    {runtimeapi.Signal_SIGNAL_SIGRTMAX, 64},
	}
	for name, tt := range tests {
		if got := ToCRI(name); got != tt.cri {
			t.Errorf("ToCRI(%q) is %v, want %v", name, got, tt.cri)
		}
		if got := FromCRI(tt.cri); got != name {
			t.Errorf("FromCRI(%v) is %q, want %q", tt.cri, got, name)
		}
		if got := Number(name); got != tt.number {
			t.Errorf("Number(%q) is %d, want %d", name, got, tt.number)
		}
	}
}

// Every signal that the CRI has survives the way to a pod's name and back.
func TestSignalsRoundTrip(t *testing.T) {
	for n := range runtimeapi.Signal_name {
		if s := runtimeapi.Signal(n); s != runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT && ToCRI(FromCRI(s)) != s {
			t.Errorf("%v comes back from %q as %v", s, FromCRI(s), ToCRI(FromCRI(s)))
		}
	}
}

func TestOddSignals(t *testing.T) {
	for name, want := range map[string]syscall.Signal{"3": syscall.SIGQUIT, "": syscall.SIGTERM, "SIGWHAT": syscall.SIGTERM, "999": syscall.SIGTERM, "SIGRTMIN+99": syscall.SIGTERM} {
		if got := Number(name); got != want {
			t.Errorf("Number(%q) is %d, want %d", name, got, want)
		}
	}
	if ToCRI("SIGWHAT") != runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT || FromCRI(runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT) != "" {
		t.Error("an unknown signal is not the default")
	}
}
