package cri_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func port(n uint16) string { return strconv.Itoa(int(n)) }

// Covers: node.containers
func TestSecurityContext(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("secure", func(c *runtimeapi.PodSandboxConfig) {
		c.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
		c.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"svc.cluster.local"}, Options: []string{"ndots:5"}}
	})
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "f"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sec := func(edit func(*runtimeapi.LinuxContainerSecurityContext)) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			edit(c.Linux.SecurityContext)
			c.Mounts = []*runtimeapi.Mount{{HostPath: data, ContainerPath: "/data", Readonly: true}}
		}
	}
	for i, tc := range []struct {
		name string
		edit func(*runtimeapi.LinuxContainerSecurityContext)
		cmd  []string
		want string
		fail string // what stderr says when the command fails
	}{
		{name: "named user with its groups", cmd: []string{"id"}, want: "1234 1235 [777 1235]\n", edit: func(s *runtimeapi.LinuxContainerSecurityContext) { s.RunAsUsername = "app" }},
		{name: "groups of the pod alone", cmd: []string{"id"}, want: "1234 1235 [1235 5000]\n", edit: func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.RunAsUser = &runtimeapi.Int64Value{Value: 1234}
			s.SupplementalGroups, s.SupplementalGroupsPolicy = []int64{5000}, runtimeapi.SupplementalGroupsPolicy_Strict
		}},
		{name: "read-only root", cmd: []string{"write", "/x", "y"}, fail: "read-only file system", edit: func(s *runtimeapi.LinuxContainerSecurityContext) { s.ReadonlyRootfs = true }},
		{name: "read-only mount", cmd: []string{"write", "/data/x", "y"}, fail: "read-only file system"},
		{name: "mount", cmd: []string{"cat", "/data/f"}, want: "from the host\n"},
		{name: "masked path", cmd: []string{"cat", "/proc/version"}, want: "", edit: func(s *runtimeapi.LinuxContainerSecurityContext) { s.MaskedPaths = []string{"/proc/version"} }},
		{name: "unshare without the filter", cmd: []string{"unshare"}, want: "", edit: func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
		}},
		{name: "unshare with the default filter", cmd: []string{"unshare"}, fail: "operation not permitted", edit: func(s *runtimeapi.LinuxContainerSecurityContext) {
			s.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
		}},
		{name: "sysctl", cmd: []string{"cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"}, want: "0\n"},
		{name: "resolver", cmd: []string{"cat", "/etc/resolv.conf"}, want: "search svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"},
		{name: "a name with a byte that a shell minds", cmd: []string{"echo", "a  b;c"}, want: "a  b;c\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			edit := tc.edit
			if edit == nil {
				edit = func(*runtimeapi.LinuxContainerSecurityContext) {}
			}
			id := n.run(sb, scfg, "c"+strconv.Itoa(i), []string{"stubborn"}, sec(edit))
			defer n.RemoveContainer(t.Context(), id)
			out, errOut, err := n.ExecSync(t.Context(), id, append([]string{"/probe"}, tc.cmd...), 10*time.Second)
			if tc.fail != "" {
				if err == nil || !strings.Contains(string(errOut), tc.fail) {
					t.Errorf("got %q, %v, want it to fail with %q", errOut, err, tc.fail)
				}
				return
			}
			if err != nil || string(out) != tc.want {
				t.Errorf("got %q, %q, %v, want %q", out, errOut, err, tc.want)
			}
		})
	}
}

// Covers: node.containers
func TestNamespaces(t *testing.T) {
	n := newNode(t)
	n.pull()
	t.Run("shared process namespace", func(t *testing.T) {
		sb, scfg := n.pod("shared", func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
		})
		id := n.run(sb, scfg, "main", []string{"sleep"}, func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
		})
		out, _, err := n.ExecSync(t.Context(), id, []string{"/probe", "cat", "/proc/1/comm"}, 0)
		if err != nil || string(out) != "pause\n" {
			t.Errorf("first process: %q, %v", out, err)
		}
		n.logged(id, "ready")
		if err := n.StopContainer(t.Context(), id, 10); err != nil {
			t.Fatal(err)
		}
		if st := n.status(id); st.ExitCode != 0 {
			t.Errorf("status: %v", st)
		}
	})
	t.Run("host network", func(t *testing.T) {
		sb, scfg := n.pod("host", func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
		})
		id := n.run(sb, scfg, "main", []string{"sleep"}, func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
		})
		want, err := os.ReadFile("/proc/net/dev")
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := n.ExecSync(t.Context(), id, []string{"/probe", "cat", "/proc/net/dev"}, 0)
		if err != nil || strings.Count(string(out), ":") < strings.Count(string(want), ":")-4 {
			t.Errorf("interfaces: %q, %v", out, err)
		}
	})
	t.Run("user namespace", func(t *testing.T) {
		ids := []*runtimeapi.IDMapping{{ContainerId: 0, HostId: 200000, Length: 65536}}
		users := &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ids, Gids: ids}
		sb, scfg := n.pod("users", func(c *runtimeapi.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = users
		})
		id := n.run(sb, scfg, "main", []string{"stubborn"}, func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = users
		})
		out, errOut, err := n.ExecSync(t.Context(), id, []string{"/probe", "cat", "/proc/self/uid_map"}, 0)
		if err != nil || strings.Join(strings.Fields(string(out)), " ") != "0 200000 65536" {
			t.Errorf("mapping: %q, %q, %v", out, errOut, err)
		}
		if _, errOut, err := n.ExecSync(t.Context(), id, []string{"/probe", "write", "/etc/new", "x"}, 0); err != nil {
			t.Errorf("root may not write its image: %q, %v", errOut, err)
		}
	})
}

// A debugger with all privileges may come to a pod whose sandbox was made without.
func TestPrivilegedLater(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("plain")
	privileged := func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext.Privileged = true }
	if _, err := n.create(sb, scfg, "refused", nil, privileged); status.Code(err) != codes.InvalidArgument || strings.Contains(err.Error(), "rpc error") {
		t.Errorf("a privileged container in a pod without: %v", err)
	}
	later := proto.Clone(scfg).(*runtimeapi.PodSandboxConfig)
	later.Linux.SecurityContext.Privileged = true
	n.run(sb, later, "debugger", nil, privileged)
}
