package cpus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/cpuset"

	"skiff/kubelet/topology"
)

func manager(t *testing.T, dir string, o Options) *Manager {
	t.Helper()
	m, err := New(Config{Policy: Static, Options: o, Machine: build(2, 1, 1, 4, 2), ReservedMilli: 1500, Dir: dir, Changed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(); err != nil {
		t.Fatal(err)
	}
	return m
}

// guaranteed makes a pod whose containers ask for CPUs.
func guaranteed(name string, init []string, main ...string) *v1.Pod {
	p := &v1.Pod{}
	p.Name, p.UID = name, types.UID(name)
	containers := func(prefix string, cpus []string) (out []v1.Container) {
		for i, n := range cpus {
			list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(n), v1.ResourceMemory: resource.MustParse("1Gi")}
			out = append(out, v1.Container{Name: prefix + string(rune('0'+i)), Resources: v1.ResourceRequirements{Requests: list, Limits: list}})
		}
		return out
	}
	p.Spec.InitContainers, p.Spec.Containers = containers("i", init), containers("c", main)
	return p
}

func admit(t *testing.T, m *Manager, p *v1.Pod, hint topology.Hint) error {
	t.Helper()
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if err := m.Allocate(t.Context(), p, &list[i], hint); err != nil {
				return err
			}
		}
	}
	return nil
}

// Covers: node.managers
func TestAllocate(t *testing.T) {
	m := manager(t, t.TempDir(), Options{})
	// 1.5 CPUs are reserved, as a whole core.
	if got := m.Allocatable().String(); got != "1-7,9-15" {
		t.Errorf("allocatable %s", got)
	}
	for _, step := range []struct {
		name string
		pod  *v1.Pod
		hint topology.Hint
		want string // of the last container
	}{
		{"two", guaranteed("two", nil, "2"), topology.Hint{}, "1,9"},
		{"at the other node", guaranteed("other", nil, "2"), topology.Hint{Nodes: topology.NewMask(1)}, "4,12"},
		{"parts of a CPU are shared", guaranteed("shared", nil, "1500m"), topology.Hint{}, "0,2-3,5-8,10-11,13-15"},
		{"after an init container", guaranteed("init", []string{"2"}, "4"), topology.Hint{}, "2-3,10-11"},
	} {
		if err := admit(t, m, step.pod, step.hint); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := m.Of(step.pod.UID, step.pod.Spec.Containers[0].Name).String(); got != step.want {
			t.Errorf("%s: CPUs %s, want %s", step.name, got, step.want)
		}
	}
	if got := m.Of("shared", "c0").String(); got != "0,5-8,13-15" {
		t.Errorf("the shared CPUs became %s", got)
	}
	err := admit(t, m, guaranteed("big", nil, "9"), topology.Hint{})
	if want := "not enough cpus available to satisfy request: requested=9, available=6"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := m.Release("two"); err != nil {
		t.Fatal(err)
	}
	if got := m.Of("shared", "c0").String(); got != "0-1,5-9,13-15" {
		t.Errorf("after one pod ended the shared CPUs are %s", got)
	}
}

func TestFullCores(t *testing.T) {
	m := manager(t, t.TempDir(), Options{FullCores: true})
	for n, want := range map[string]string{
		"3":  "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2",
		"16": "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = 14, requested CPUs = 16, CPUs per core = 2",
	} {
		if err := admit(t, m, guaranteed("p"+n, nil, n), topology.Hint{}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", n, err, want)
		}
	}
}

func TestHints(t *testing.T) {
	m := manager(t, t.TempDir(), Options{})
	zero, one, both := topology.NewMask(0), topology.NewMask(1), topology.NewMask(0, 1)
	for _, tc := range []struct {
		name string
		pod  *v1.Pod
		want []topology.Hint
	}{
		{"either node", guaranteed("a", nil, "4"), []topology.Hint{{Nodes: zero, Preferred: true}, {Nodes: one, Preferred: true}, {Nodes: both}}},
		{"one is too full", guaranteed("a", nil, "8"), []topology.Hint{{Nodes: one, Preferred: true}, {Nodes: both}}},
		{"always both", guaranteed("a", nil, "10"), []topology.Hint{{Nodes: both, Preferred: true}}},
		{"never", guaranteed("a", nil, "15"), []topology.Hint{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := m.Hints(tc.pod, &tc.pod.Spec.Containers[0])["cpu"]
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("hints (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, m.PodHints(tc.pod)["cpu"]); diff != "" {
				t.Errorf("hints of the pod (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRestore(t *testing.T) {
	dir := t.TempDir()
	m := manager(t, dir, Options{})
	if err := admit(t, m, guaranteed("a", nil, "2"), topology.Hint{}); err != nil {
		t.Fatal(err)
	}
	if got := manager(t, dir, Options{}).Of("a", "c0").String(); got != "1,9" {
		t.Errorf("after a restart the CPUs are %s", got)
	}
	for _, tc := range []struct {
		name, want string
		cfg        Config
	}{
		{"another policy", `configured policy "none" differs from state checkpoint policy "static"`, Config{Policy: None}},
		{"another machine", `current set of available CPUs "0-7" doesn't match with CPUs in state "0-15"`, Config{Policy: Static, Machine: build(1, 1, 1, 4, 2), Reserved: cpuset.New(0)}},
		{"other reserved CPUs", `not all reserved cpus: "1" are present in defaultCpuSet`, Config{Policy: Static, Machine: build(2, 1, 1, 4, 2), Reserved: cpuset.New(1)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cfg.Dir, tc.cfg.Changed = dir, func() {}
			m, err := New(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Restore(); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "please drain this node and delete the CPU manager checkpoint file") {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	if err := m.Release("a"); err != nil {
		t.Fatal(err)
	}
	if none, err := New(Config{Policy: None, Dir: dir, Changed: func() {}}); err != nil {
		t.Fatal(err)
	} else if err := none.Restore(); err != nil {
		t.Errorf("another policy, when nothing is given out: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cpu_manager_state"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := New(Config{Policy: Static, Machine: build(2, 1, 1, 4, 2), ReservedMilli: 1, Dir: dir, Changed: func() {}}); err != nil {
		t.Fatal(err)
	} else if err := m.Restore(); err == nil {
		t.Error("half a file was accepted")
	}
}

func TestConfiguration(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		cfg        Config
	}{
		{"nothing reserved", "the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero", Config{Policy: Static}},
		{"a reserved CPU that is not there", "the machine has no CPUs", Config{Policy: Static, Reserved: cpuset.New(99)}},
	} {
		tc.cfg.Machine, tc.cfg.Dir, tc.cfg.Changed = build(1, 1, 1, 2, 1), "/", func() {}
		if _, err := New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}

func TestStrictReservation(t *testing.T) {
	m := manager(t, t.TempDir(), Options{StrictReservation: true})
	if got := m.Of("any", "c").String(); got != "1-7,9-15" {
		t.Errorf("shared CPUs %s, want all but the reserved", got)
	}
}
