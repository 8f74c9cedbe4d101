package cri_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// BenchmarkStart measures what a start costs where the image is present: a container
// in a sandbox that is there, a sandbox, and runc alone, which is given the very OCI
// configuration of a container of ours. They take turns, so that they share what else
// the machine does. Run it with -benchtime 100x as root.
func BenchmarkStart(b *testing.B) {
	n := newNode(b)
	n.pull()
	ctx := b.Context()
	sandbox, cfg := n.pod("bench")
	runc, runcErr := exec.LookPath("runc")
	state, bundle := b.TempDir(), bundleOf(b, n, n.run(sandbox, cfg, "model", nil))
	do := func(args ...string) {
		// What runs in the container keeps the output open: it gets none.
		if err := exec.CommandContext(ctx, runc, append([]string{"--root", state}, args...)...).Run(); err != nil {
			b.Fatalf("runc %v: %v", args, err)
		}
	}
	var containers, sandboxes, alone times
	for i := range b.N {
		name := fmt.Sprintf("bench-%d", i)
		begin := time.Now()
		id := n.run(sandbox, cfg, name, nil)
		containers = append(containers, time.Since(begin))
		if err := n.RemoveContainer(ctx, id); err != nil {
			b.Fatal(err)
		}

		begin = time.Now()
		id, _ = n.pod(name)
		sandboxes = append(sandboxes, time.Since(begin))
		if err := n.RemovePodSandbox(ctx, id); err != nil {
			b.Fatal(err)
		}

		if runcErr != nil {
			continue
		}
		begin = time.Now()
		do("create", "--bundle", bundle, name)
		do("start", name)
		alone = append(alone, time.Since(begin))
		do("delete", "--force", name)
	}
	containers.report(b, "container")
	sandboxes.report(b, "sandbox")
	alone.report(b, "runc")
}

// bundleOf makes an OCI bundle of a container of ours for another runtime, on the
// same root but in a cgroup of its own.
func bundleOf(b *testing.B, n *node, id string) string {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(n.cfg.StateDir, "containers", id, "config.json"))
	if err != nil {
		b.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		b.Fatal(err)
	}
	spec.Linux.CgroupsPath = n.cfg.CgroupRoot + "/podbench/runc"
	if data, err = json.Marshal(spec); err != nil {
		b.Fatal(err)
	}
	bundle := b.TempDir()
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600); err != nil {
		b.Fatal(err)
	}
	return bundle
}

// times are how long each run of something took.
type times []time.Duration

// report shows the median and the slowest of a hundred in place of the mean.
func (t times) report(b *testing.B, of string) {
	if len(t) == 0 {
		return
	}
	slices.Sort(t)
	for name, share := range map[string]float64{"p50": 0.5, "p99": 0.99} {
		at := t[min(int(share*float64(len(t))), len(t)-1)]
		b.ReportMetric(float64(at.Microseconds())/1000, of+"-"+name+"-ms")
	}
	b.ReportMetric(0, "ns/op")
}
