package config

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func facts() Facts {
	return Facts{NodeName: "node", Address: net.IPv4(192, 0, 2, 1), CRISocket: "/run/skiff/cri.sock", StateDir: "/var/lib/skiff", PKI: "/etc/kubernetes/pki", Version: "v1.37.2"}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeadm.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Covers: config
func TestMigrate(t *testing.T) {
	const old = `apiVersion: kubeadm.k8s.io/v1beta3
kind: ClusterConfiguration
apiServer:
  timeoutForControlPlane: 3m0s
  extraArgs: {v: 2, audit-log-path: /var/log/audit}
etcd:
  local:
    extraArgs: {quota: "7"}
---
apiVersion: kubeadm.k8s.io/v1beta3
kind: InitConfiguration
nodeRegistration:
  taints: []
  kubeletExtraArgs: {node-labels: a=b}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 20
`
	const want = `apiServer:
  extraArgs:
  - name: audit-log-path
    value: /var/log/audit
  - name: v
    value: "2"
apiVersion: kubeadm.k8s.io/v1beta4
etcd:
  local:
    extraArgs:
    - name: quota
      value: "7"
kind: ClusterConfiguration
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
nodeRegistration:
  kubeletExtraArgs:
  - name: node-labels
    value: a=b
  taints: []
timeouts:
  controlPlaneComponentHealthCheck: 3m0s
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 20
`
	docs, err := Migrate(write(t, old))
	if err != nil {
		t.Fatal(err)
	}
	got := string(bytes.Join(docs, []byte("---\n")))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if errs, err := Check(write(t, got), facts()); err != nil || len(errs) > 0 {
		t.Errorf("the migrated file is not valid: %v, %v", err, errs)
	}
	if again, err := Migrate(write(t, got)); err != nil || string(bytes.Join(again, []byte("---\n"))) != got {
		t.Errorf("a file of the present version changes: %v", err)
	}
}

func TestMigrateRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field": {"apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\nnonsense: 1\n", "nonsense"},
		"unknown kind":  {"apiVersion: kubeadm.k8s.io/v1beta3\nkind: Nonsense\n", "Nonsense"},
		"no document":   {"apiVersion: v1\nkind: ConfigMap\n", "no document"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Migrate(write(t, tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
		})
	}
}

// Covers: config
func TestCheck(t *testing.T) {
	const join = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\ndiscovery:\n  bootstrapToken: {token: abcdef.0123456789abcdef, apiServerEndpoint: 'a:6443', unsafeSkipCAVerification: true}\n"
	for name, tc := range map[string]struct{ text, want string }{
		"init":             {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n", ""},
		"join":             {join, ""},
		"all in one":       {join + "---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ResetConfiguration\n", ""},
		"twice":            {join + "---\n" + join, "2 times"},
		"old":              {"apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\n", "skiff config migrate"},
		"unknown field":    {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ResetConfiguration\nnonsense: 1\n", "nonsense"},
		"bad token":        {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\nbootstrapTokens: [{token: short}]\n", "bootstrapTokens[0].token"},
		"pod backend":      {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking: {podBackend: tunnel}\n", "networking.podBackend"},
		"bad subnet":       {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking: {podSubnet: nowhere}\n", "networking.podSubnet"},
		"join without how": {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n", "discovery"},
	} {
		t.Run(name, func(t *testing.T) {
			errs, err := Check(write(t, tc.text), facts())
			if err == nil {
				err = errs.ToAggregate()
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
