package cri_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"skiff/kubelet/cri/shimapi"
)

// killProbe kills a container's processes behind the runtime's back.
func killProbe(t *testing.T, n *node, id string) {
	t.Helper()
	procs, err := filepath.Glob("/sys/fs/cgroup/pids" + n.cfg.CgroupRoot + "/*/" + id + "/cgroup.procs")
	if err != nil || len(procs) != 1 {
		t.Fatalf("cgroup of %s: %v, %v", id, procs, err)
	}
	data, err := os.ReadFile(procs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
}

func killShim(t *testing.T, dir string) {
	t.Helper()
	var proc shimapi.Proc
	if err := shimapi.ReadJSON(filepath.Join(dir, shimapi.PidFile), &proc); err != nil {
		t.Fatal(err)
	}
	if err := proc.Kill(); err != nil {
		t.Fatal(err)
	}
}
