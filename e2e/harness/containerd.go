package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// runtimeEnv names the container runtime of the tests: empty for skiff's own,
	// or containerd. That has one node, and no pod network but its CNI plugins'.
	runtimeEnv = "SKIFF_E2E_RUNTIME"
	// cniPlugins is where Debian's package has them.
	cniPlugins = "/usr/lib/cni"
	// cniBridge is the bridge that the pods are at.
	cniBridge = "cni0"
)

// containerdConfig is what a user of containerd writes, at places of its own. A
// machine that does not let processes be guarded more than they are is one too.
const containerdConfig = `version = 2
root = %[1]q
state = %[2]q
[grpc]
  address = %[3]q
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "registry.k8s.io/pause:3.9"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[4]q
    conf_dir = %[5]q
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %[6]q
`

const containerdHosts = `server = "https://%s"
[host.%q]
  capabilities = ["pull", "resolve"]
`

// The first node of a cluster has the first /24 of the pods' range.
const cniConfig = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{
  "type": "bridge", "bridge": %q, "isGateway": true, "ipMasq": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}
`

// containerd is a running containerd below the cluster's folder.
type containerd struct {
	dir string
	cmd *exec.Cmd
	log *os.File
}

func (d *containerd) socket() string { return filepath.Join(d.dir, "containerd.sock") }

// startContainerd runs containerd until stop; it takes its images from url.
func startContainerd(ctx context.Context, dir, url string) (*containerd, error) {
	for _, want := range []string{cniPlugins + "/bridge"} {
		if _, err := os.Stat(want); err != nil {
			return nil, fmt.Errorf("%w: %w: install containernetworking-plugins", ErrSkip, err)
		}
	}
	bin, err := exec.LookPath("containerd")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSkip, err)
	}
	d := &containerd{dir: dir}
	conf, hosts := filepath.Join(dir, "net.d"), filepath.Join(dir, "certs.d")
	files := map[string]string{
		filepath.Join(conf, "10-pods.conflist"): fmt.Sprintf(cniConfig, cniBridge, filepath.Join(dir, "ipam")),
		filepath.Join(dir, "config.toml"):       fmt.Sprintf(containerdConfig, filepath.Join(dir, "lib"), filepath.Join(dir, "run"), d.socket(), cniPlugins, conf, hosts),
	}
	for _, registry := range []string{"docker.io", "registry.k8s.io"} {
		files[filepath.Join(hosts, registry, "hosts.toml")] = fmt.Sprintf(containerdHosts, registry, url)
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	if d.log, err = os.Create(filepath.Join(dir, "containerd.log")); err != nil {
		return nil, err
	}
	d.cmd = exec.Command(bin, "--config", filepath.Join(dir, "config.toml"))
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		return nil, errors.Join(err, d.log.Close())
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; {
		if _, err := os.Stat(d.socket()); err == nil {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), d.stop())
		case <-tick.C:
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(d.log.Name())
			return nil, errors.Join(fmt.Errorf("containerd does not listen:\n%s", text), d.stop())
		}
	}
}

// stop ends containerd and takes away what is containerd's and its plugins', not
// the cluster's.
func (d *containerd) stop() error {
	_ = d.cmd.Process.Signal(unix.SIGTERM) // it may have ended
	_ = d.cmd.Wait()
	errs := []error{d.log.Close()}
	if link, err := netlink.LinkByName(cniBridge); err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(errs...)
}
