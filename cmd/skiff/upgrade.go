package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/semver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"skiff/cluster/layout"
	"skiff/cluster/node"
	"skiff/cluster/process"
	"skiff/cluster/setup"
	"skiff/cluster/version"
)

// upgradeWait is how long the new version has to become ready.
const upgradeWait = 2 * time.Minute

func upgradeCommand() *cobra.Command {
	var rootDir string
	cmd := &cobra.Command{Use: "upgrade", Short: "Go over to the version of this binary"}
	cmd.PersistentFlags().StringVar(&rootDir, "root", "", "the folder of the node; empty is the machine itself")
	plan := &cobra.Command{
		Use: "plan", Short: "Check whether the upgrade can be done, and say what it would do", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			return upgradePlan(cmd, l)
		},
	}
	apply := &cobra.Command{
		Use: "apply", Short: "Upgrade this control-plane node: back up, switch the binary, wait; go back when it fails", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			if err := upgradePlan(cmd, l); err != nil {
				return err
			}
			return upgradeNode(cmd, l, true)
		},
	}
	member := &cobra.Command{
		Use: "node", Short: "Upgrade this worker node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := layout.New(rootDir)
			if err != nil {
				return err
			}
			return upgradeNode(cmd, l, false)
		},
	}
	cmd.AddCommand(plan, apply, member)
	return cmd
}

// skew refuses to go back, or over more than one minor version (the version skew
// policy of Kubernetes).
func skew(from, to string) error {
	switch {
	case !semver.IsValid(from) || !semver.IsValid(to):
		return fmt.Errorf("versions %q and %q cannot be compared", from, to)
	case semver.Compare(semver.MajorMinor(to), semver.MajorMinor(from)) < 0:
		return fmt.Errorf("this binary is %s and the cluster %s: going back is not supported; restore a backup instead", to, from)
	}
	var fMajor, fMinor, tMajor, tMinor int
	if _, err := fmt.Sscanf(semver.MajorMinor(from), "v%d.%d", &fMajor, &fMinor); err != nil {
		return err
	}
	if _, err := fmt.Sscanf(semver.MajorMinor(to), "v%d.%d", &tMajor, &tMinor); err != nil {
		return err
	}
	if tMajor != fMajor || tMinor > fMinor+1 {
		return fmt.Errorf("this binary is %s and the cluster %s: upgrade one minor version after the other", to, from)
	}
	return nil
}

func upgradePlan(cmd *cobra.Command, l layout.Layout) error {
	out := cmd.OutOrStdout()
	c, err := node.Load(l)
	if err != nil {
		return err
	}
	if !c.ControlPlane {
		return fmt.Errorf("the node below %s is a worker: run `skiff upgrade node` there", l.Root())
	}
	client, _, err := adminClient(l.Root())
	if err != nil {
		return err
	}
	running, err := client.Discovery().ServerVersion()
	if err != nil {
		return fmt.Errorf("the API server does not answer: start the node with `skiff up` first: %w", err)
	}
	fmt.Fprintf(out, "[upgrade/versions] Cluster version: %s\n[upgrade/versions] Version of this binary: %s\n", running.GitVersion, version.Version)
	if err := skew(running.GitVersion, version.Version); err != nil {
		return err
	}
	nodes, err := client.CoreV1().Nodes().List(cmd.Context(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		fmt.Fprintf(out, "[upgrade/versions] Node %s runs %s\n", n.Name, n.Status.NodeInfo.KubeletVersion)
	}
	store := "the store is kept elsewhere: back it up with its own tools"
	if c.UsesSQLite() {
		store = "the store, the certificates and the configuration are backed up to " + backupDir(l)
	}
	fmt.Fprintf(out, "[upgrade/plan] `skiff upgrade apply`: %s; the process is switched to this binary; pods keep running\n", store)
	return nil
}

func backupDir(l layout.Layout) string { return filepath.Join(l.State(), "backups") }

// upgradeNode switches the node's process to this binary. When the new one does
// not become ready, the old one is started again.
func upgradeNode(cmd *cobra.Command, l layout.Layout, master bool) error {
	out := cmd.OutOrStdout()
	ctx, cancel := context.WithTimeout(cmd.Context(), upgradeWait+time.Minute)
	defer cancel()
	c, err := node.Load(l)
	if err != nil {
		return err
	}
	if c.ControlPlane && !master {
		return fmt.Errorf("the node below %s is of the control plane: run `skiff upgrade apply` there", l.Root())
	}
	pid, err := process.Find(l)
	if err != nil {
		return err
	}
	if pid == 0 {
		return fmt.Errorf("the node below %s does not run: start it with `skiff up` first", l.Root())
	}
	old, err := keepExecutable(l, pid)
	if err != nil {
		return err
	}
	if master && c.UsesSQLite() {
		if err := os.MkdirAll(backupDir(l), 0o700); err != nil {
			return err
		}
		file := filepath.Join(backupDir(l), "before-"+strings.ReplaceAll(version.Version, "+", "_")+"-"+time.Now().UTC().Format("20060102T150405Z")+".tar.gz")
		if err := makeBackup(ctx, l, file); err != nil {
			return fmt.Errorf("back up: %w", err)
		}
		fmt.Fprintf(out, "[upgrade/backup] Backed up to %s\n", file)
	}
	m, err := machine(cmd, l.Root(), c.NetNS)
	if err != nil {
		return err
	}
	if err := switchTo(ctx, m, m.Executable, master, c); err != nil {
		fmt.Fprintf(out, "[upgrade/rollback] The new version did not become ready; starting the old one again\n")
		back := context.WithoutCancel(ctx)
		return errors.Join(fmt.Errorf("upgrade: %w", err), switchTo(back, m, old, master, c))
	}
	if master {
		c.Cluster.KubernetesVersion = version.Version
		if err := node.Save(l, c); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "[upgrade] The node %s runs %s\n", c.Name, version.Version)
	return os.RemoveAll(filepath.Dir(old))
}

// keepExecutable copies the binary that the process runs, which may have been
// replaced on disk.
func keepExecutable(l layout.Layout, pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return "", fmt.Errorf("read the running binary: %w", err)
	}
	dir := filepath.Join(l.State(), "previous")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "skiff")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return path, os.WriteFile(path, data, 0o700)
}

// switchTo stops the node's process and starts executable in its place.
func switchTo(ctx context.Context, m setup.Machine, executable string, master bool, c *node.Config) error {
	if _, err := process.Stop(ctx, m.Layout, stopGrace); err != nil {
		return err
	}
	pid, exited, err := process.Start(m.Layout, c.NetNS, executable, m.RunArgs(m.Layout)...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, upgradeWait)
	defer cancel()
	go func() {
		select {
		case <-exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	var client kubernetes.Interface
	if master {
		client, _, err = adminClient(m.Layout.Root())
	} else {
		api, cerr := workerConfig(m.Layout.Kubeconfig("kubelet.conf"))
		if cerr != nil {
			return cerr
		}
		client, err = kubernetes.NewForConfig(api)
	}
	if err != nil {
		return err
	}
	for {
		n, err := client.CoreV1().Nodes().Get(ctx, c.Name, metav1.GetOptions{})
		if err == nil && setup.IsReady(n) && n.Status.NodeInfo.KubeletVersion != "" && renewed(ctx, client, c.Name, pid) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d did not bring the node to Ready; its log is %s", pid, m.Layout.ProcessLog())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// renewed tells whether the node's Lease was renewed since this process began to
// wait: the Ready condition alone may be the old process's.
func renewed(ctx context.Context, client kubernetes.Interface, name string, pid int) bool {
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return false
	}
	lease, err := client.CoordinationV1().Leases("kube-node-lease").Get(ctx, name, metav1.GetOptions{})
	return err == nil && lease.Spec.RenewTime != nil && lease.Spec.RenewTime.After(info.ModTime())
}
