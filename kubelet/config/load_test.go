package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An error names the file and the field, which is written exactly as it is called.
func TestLoadIsStrict(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"a field", "maxPods: 7", ""},
		{"an unknown field", "maxPodz: 7", `unknown field "maxPodz"`},
		{"one in another", "authentication: {x509: {ca: f}}", `unknown field "authentication.x509.ca"`},
		{"other capitals", "imageMinimumGcAge: 1s", `unknown field "imageMinimumGcAge"`},
		{"twice", "maxPods: 7\nmaxPods: 8", `"maxPods" already set in map`},
		{"a wrong type", "maxPods: many", "maxPods"},
		{"a wrong kind", "kind: Pod", `kind "Pod"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "10-over.conf")
			if err := os.WriteFile(file, []byte(tt.in), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load("", dir, nil)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file)):
				t.Errorf("got %v, want %s of %s", err, tt.want, file)
			}
		})
	}
}

// Gates are those of Kubernetes, with the values that it lets them have.
func TestFeatureGates(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"known", "featureGates: {DefaultPodSysctls: false, CPUManagerPolicyAlphaOptions: true}", ""},
		{"locked, as it is", "featureGates: {AggregatedDiscoveryRemoveBetaType: true}", ""},
		{"locked", "featureGates: {AggregatedDiscoveryRemoveBetaType: false}", "cannot set feature gate AggregatedDiscoveryRemoveBetaType to false, feature is locked to true"},
		{"unknown", "featureGates: {DefaultPodSysctlz: false}", "invalid configuration: featureGates: unrecognized feature gate: DefaultPodSysctlz"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.in))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// Drop-ins go over the file in the order of their names, maps field by field.
func TestLoadMergesDropIns(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"kubelet.yaml":    "maxPods: 1\nclusterDNS: [1.1.1.1]\nevictionHard: {nodefs.available: 1%}",
		"d/10.conf":       "maxPods: 2\nclusterDNS: [2.2.2.2]\nevictionHard: {memory.available: 50Mi}",
		"d/sub/05.conf":   "maxPods: 3",
		"d/20.conf":       "podPidsLimit: 9",
		"d/30.conf.saved": "nonsense",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(filepath.Join(dir, "kubelet.yaml"), filepath.Join(dir, "d"), map[string]any{"port": 10260})
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		MaxPods, Port int32
		Pids          int64
		DNS           []string
		Eviction      map[string]string
	}
	want := result{3, 10260, 9, []string{"2.2.2.2"}, map[string]string{"nodefs.available": "1%", "memory.available": "50Mi"}}
	got := result{c.MaxPods, c.Port, *c.PodPidsLimit, c.ClusterDNS, c.EvictionHard}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}
