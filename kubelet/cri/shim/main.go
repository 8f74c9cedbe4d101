//go:build linux && cgo

package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"runtime"
	"runtime/debug"

	"skiff/kubelet/cri/shimapi"

	_ "github.com/opencontainers/cgroups/devices" // without it device rules are refused
	"golang.org/x/sys/unix"
)

// readyFD is where the runtime waits for the shim's one line: empty object, or the error.
const readyFD = 3

func main() {
	log.SetFlags(log.LstdFlags | log.LUTC)
	if len(os.Args) != 2 || os.Args[1] != "pod" {
		fmt.Fprintln(os.Stderr, "skiff-shim is run by skiff, in a pod's run directory, with the argument pod")
		os.Exit(2)
	}
	// A shim does little and seldom; its memory counts once per pod. While a
	// container starts nothing is collected: less is torn to pieces, and what is
	// free goes back to the system once the work is done.
	debug.SetGCPercent(startingGCPercent)
	debug.SetMemoryLimit(8 << 20)
	runtime.MemProfileRate = 0

	ready := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	pod, err := open()
	if err == nil {
		err = pod.listen()
	}
	report := shimapi.Reply{}
	if err != nil {
		report.Error = err.Error()
	}
	if line, merr := json.Marshal(report); merr == nil {
		ready.Write(append(line, '\n'))
	}
	ready.Close()
	if err != nil {
		log.Print(err)
		if pod != nil {
			pod.release()
		}
		os.Exit(1)
	}
	pod.serve()
}

// open prepares the pod that the current directory describes.
func open() (*pod, error) {
	if !canRunContainers {
		return nil, fmt.Errorf("the shim was built with CGO_ENABLED=0 and cannot run containers: build it with make build")
	}
	var sb shimapi.Sandbox
	if err := shimapi.ReadJSON(shimapi.SandboxFile, &sb); err != nil {
		return nil, err
	}
	self, err := shimapi.ProcOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	// Orphans of containers in the host's PID namespace come here to be reaped.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	if err := shimapi.WriteJSON(shimapi.PidFile, self); err != nil {
		return nil, err
	}
	if err := leaveCgroup(sb.Cgroup); err != nil {
		return nil, err
	}
	p := newPod(sb)
	if err := p.makeNamespaces(); err != nil {
		return p, err
	}
	return p, nil
}
