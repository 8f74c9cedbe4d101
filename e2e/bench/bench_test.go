package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRefusedConfig(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no kubeconfig", Config{}, "Kubeconfig is empty"},
		{"negative count", Config{Kubeconfig: missing, Objects: -1}, "Objects -1"},
		{"too many definitions", Config{Kubeconfig: missing, CustomResources: 5001}, "at most 5000"},
		{"missing file", Config{Kubeconfig: missing}, missing},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Run(t.Context(), c.cfg, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one that says %q", err, c.want)
			}
		})
	}
}

// TestAgainstCluster runs small work against the cluster of SKIFF_BENCH.
//
// Covers: bench
func TestAgainstCluster(t *testing.T) {
	kubeconfig := os.Getenv("SKIFF_BENCH")
	if kubeconfig == "" {
		t.Skip("SKIFF_BENCH names no kubeconfig")
	}
	var out bytes.Buffer
	err := Run(t.Context(), Config{Kubeconfig: kubeconfig, Clients: 4, Objects: 40, Lists: 4, Watchers: 5, WatchedWrites: 10, ScheduledPods: 10, CustomResources: 20}, &out)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(out.String()) {
		var r Result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.PerSecond <= 0 || r.P99Millis < r.P50Millis {
			t.Errorf("%+v: want a throughput, and p99 not below p50", r)
		}
		names = append(names, r.Name)
	}
	if got, want := strings.Join(names, " "), "create get update patch list watch delete schedule "+
		"custom-define custom-all-discovered custom-discovery custom-openapi-index custom-openapi-group custom-openapi-v2 custom-publish"; got != want {
		t.Errorf("measured %s, want %s", got, want)
	}
}

// A server that is not there must end the run with its cause, and not hang it.
func TestServerGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), Config{Kubeconfig: file}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "create the namespace") {
		t.Errorf("error %v, want one about the namespace", err)
	}
}
