package setup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/cluster/node"
	"skiff/cluster/process"
	"skiff/cluster/workflow"
)

// stopGrace is how long a node's process may take to end.
const stopGrace = 20 * time.Second

// Cleaner takes away what a part of the node left on the machine: containers,
// network interfaces, rules. It must do so without the part running.
type Cleaner struct {
	What  string
	Clean func(ctx context.Context) error
}

// Reset is the data of `skiff reset`.
type Reset struct {
	Machine
	// Cleaners run after the node's process has ended, in order.
	Cleaners []Cleaner
	// LeaveCluster deletes the Node object first, when the API answers.
	LeaveCluster bool
}

// Run stops the node and removes all that it made. It goes on after an error,
// so that as little as possible is left, and returns all of them.
func (d *Reset) Run(ctx context.Context, skip []string, only string) error {
	steps, err := workflow.Steps(ResetPhases(), skip, only)
	if err != nil {
		return err
	}
	var errs []error
	for _, step := range steps {
		if err := step.Run(ctx, d); err != nil {
			errs = append(errs, fmt.Errorf("phase %s: %w", step.Path, err))
		}
	}
	return errors.Join(errs...)
}

// ResetPhases is kubeadm's workflow.
func ResetPhases() []workflow.Phase[*Reset] {
	type phase = workflow.Phase[*Reset]
	return []phase{
		{Name: "preflight", Short: "Run reset pre-flight checks", Run: method((*Reset).preflight)},
		{Name: "leave", Short: "Delete the Node object", Run: method((*Reset).leave)},
		{Name: "cleanup-node", Short: "Stop the node and remove what it made", Run: method((*Reset).cleanup)},
	}
}

func (d *Reset) preflight(context.Context) error {
	if os.Geteuid() != 0 && !d.DryRun {
		return errors.New("user is not running as root: run it with sudo")
	}
	return nil
}

// leave is best effort: the cluster may be gone already.
func (d *Reset) leave(ctx context.Context) error {
	if !d.LeaveCluster {
		return nil
	}
	c, err := node.Load(d.Layout)
	if err != nil {
		return nil
	}
	return d.do("leave", "delete the Node "+c.Name, func() error {
		client, _, err := clientFor(d.Layout.AdminConf())
		if err != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if err := client.CoreV1().Nodes().Delete(ctx, c.Name, metav1.DeleteOptions{}); err != nil {
			d.say("leave", "The Node %s stays in the cluster: %v", c.Name, err)
		}
		return nil
	})
}

func (d *Reset) cleanup(ctx context.Context) error {
	var errs []error
	try := func(what string, change func() error) {
		if err := d.do("cleanup-node", what, change); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	try("stop the node", func() error {
		_, err := process.Stop(ctx, d.Layout, stopGrace)
		return err
	})
	for _, c := range d.Cleaners {
		try(c.What, func() error { return c.Clean(ctx) })
	}
	for _, path := range []string{
		d.Layout.State(), d.Layout.Kubernetes(), d.Layout.Kubelet(), d.Layout.PodLogs(), d.Layout.ContainerLogs(),
		d.Layout.ProcessLog(), d.Layout.Run(),
	} {
		try("remove "+path, func() error { return os.RemoveAll(path) })
	}
	if len(errs) == 0 {
		d.say("cleanup-node", "The node is gone from this machine")
	}
	return errors.Join(errs...)
}
