package cri

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (sb *sandbox) hostname() string {
	if sb.cfg.Hostname != "" {
		return sb.cfg.Hostname
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// sharedFile is the path of one of the sandbox's files. They are on the disk: the
// shim's folder is in memory, which a container could fill through them.
func (sb *sandbox) sharedFile(name string) string {
	path := filepath.Join(sb.disk, name)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if old := filepath.Join(sb.dir, name); isFile(old) {
			return old // an earlier version made it
		}
	}
	return path
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

// writeSandboxFiles makes the files and the shared memory of a pod.
func (r *Runtime) writeSandboxFiles(sb *sandbox) error {
	resolv, err := r.resolvConf(sb.cfg.DnsConfig)
	if err != nil {
		return err
	}
	hosts := []byte("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	if sb.hostNetwork() {
		if own, err := os.ReadFile("/etc/hosts"); err == nil {
			hosts = own
		}
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{resolvFile, resolv}, {hostnameFile, []byte(sb.hostname() + "\n")}, {hostsFile, hosts}} {
		if err := os.WriteFile(filepath.Join(sb.disk, f.name), f.data, 0o644); err != nil {
			return err
		}
	}
	if sb.namespaces().Ipc == runtimeapi.NamespaceMode_NODE {
		return nil
	}
	shm := filepath.Join(sb.dir, sharedMemory)
	if err := os.MkdirAll(shm, 0o777); err != nil {
		return err
	}
	if err := unix.Mount("shm", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=65536k"); err != nil {
		return fmt.Errorf("mount the pod's shared memory: %w", err)
	}
	if u := sb.namespaces().GetUsernsOptions(); mapped(u) {
		return os.Chown(shm, int(u.Uids[0].HostId), int(u.Gids[0].HostId))
	}
	return nil
}

func (r *Runtime) resolvConf(dns *runtimeapi.DNSConfig) ([]byte, error) {
	if dns == nil {
		data, err := os.ReadFile(r.cfg.ResolvConf)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return data, err
	}
	var b strings.Builder
	if len(dns.Searches) > 0 {
		b.WriteString("search " + strings.Join(dns.Searches, " ") + "\n")
	}
	for _, s := range dns.Servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(dns.Options) > 0 {
		b.WriteString("options " + strings.Join(dns.Options, " ") + "\n")
	}
	return []byte(b.String()), nil
}
