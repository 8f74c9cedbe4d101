package preflight

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestRunCollectsAndIgnores(t *testing.T) {
	bad := func(name string) Check {
		return Check{Name: name, Run: func(context.Context) (w, e []error) { return nil, []error{errors.New(name + " is bad")} }}
	}
	tests := []struct {
		name   string
		ignore []string
		want   []string
	}{
		{"both are told", nil, []string{"[ERROR A]: A is bad", "[ERROR B]: B is bad"}},
		{"one is ignored, whatever its case", []string{"a"}, []string{"[ERROR B]: B is bad"}},
		{"all are ignored", []string{"all"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Run(t.Context(), io.Discard, []Check{bad("A"), bad("B")}, tt.ignore)
			if (err != nil) != (len(tt.want) > 0) || (err != nil && !IsFailed(err)) {
				t.Fatalf("error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

// Covers: init.preflight
func TestMachineChecks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used := l.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	file := filepath.Join(dir, "admin.conf")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		check Check
		want  string
	}{
		{"a taken port", Port("127.0.0.1", used), "is in use"},
		{"a file of an earlier init", FilesAbsent(file)[0], "already exists"},
		{"a folder with things in it", DirEmpty(dir), "is not empty"},
		{"a folder that is not there", DirEmpty(filepath.Join(dir, "none")), ""},
		{"a program that is not there", Executables("nothing", "no-such-program")[0], "install the package nothing"},
		{"a program that is there", Executables("coreutils", "ls")[0], ""},
		{"more space than any disk has", FreeSpace(filepath.Join(dir, "a/b"), 1<<62), "are needed"},
		{"a little space", FreeSpace(dir, 1), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, errs := tt.check.Run(t.Context())
			err := errors.Join(errs...)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// Covers: up.kernel
func TestMissingControllers(t *testing.T) {
	const v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n" +
		"33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n34 31 0:31 / /a rw - cgroup cgroup rw,devices\n" +
		"35 31 0:32 / /b rw - cgroup cgroup rw,freezer\n36 31 0:33 / /c rw - cgroup cgroup rw,pids\n"
	for _, tt := range []struct {
		name, mounts, unified string
		want                  []string
	}{
		{"all of v1", v1 + "37 31 0:34 / /d rw - cgroup cgroup rw,memory\n", "", nil},
		{"one of v1 is not mounted", v1, "", []string{`"memory"`}},
		{"hidden mounts", "22 1 0:1 / /sys rw - sysfs sysfs rw\n", "", []string{"nsenter"}},
		{"all of v2", "", "cpuset cpu io memory pids", nil},
		{"v2 with little", "", "hugetlb cpu cpuset", []string{`"memory"`, `"pids"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			errs := missingControllers(tt.mounts, tt.unified)
			if len(errs) != len(tt.want) {
				t.Fatalf("errors %v, want %d", errs, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(errs[i].Error(), want) {
					t.Errorf("error %q lacks %q", errs[i], want)
				}
			}
		})
	}
}

// TestWireGuard asks the kernel of this machine.
func TestWireGuard(t *testing.T) {
	_, errs := WireGuard().Run(t.Context())
	if _, err := netlink.GenlFamilyGet("wireguard"); err == nil {
		if len(errs) > 0 {
			t.Errorf("the kernel has it: %v", errs)
		}
		return
	}
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "load the module wireguard") || !strings.Contains(errs[0].Error(), "set podBackend to vxlan") {
		t.Errorf("errors %v, want one that names the remedies", errs)
	}
}
