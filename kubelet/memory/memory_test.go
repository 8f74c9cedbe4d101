package memory

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"skiff/kubelet/memory/state"
	"skiff/kubelet/topology"
)

const gib = 1 << 30

// machine has two nodes of 10 GiB, with 2 GiB of huge pages on the second.
func machine() topology.Machine {
	return topology.Machine{Nodes: []topology.Node{{ID: 0, Memory: 10 * gib}, {ID: 1, Memory: 12 * gib, HugePages: map[int64]int64{2 << 20: 2 * gib}}}}
}

func reserve(node int32, kind v1.ResourceName, size string) kubeletv1beta1.MemoryReservation {
	return kubeletv1beta1.MemoryReservation{NumaNode: node, Limits: v1.ResourceList{kind: resource.MustParse(size)}}
}

func manager(t *testing.T, dir string) *Manager {
	t.Helper()
	m, err := New(Config{Policy: Static, Machine: machine(), Dir: dir, Reserved: []kubeletv1beta1.MemoryReservation{reserve(0, v1.ResourceMemory, "1Gi")},
		Total: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourceCPU: resource.MustParse("1")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(); err != nil {
		t.Fatal(err)
	}
	return m
}

// guaranteed makes a pod whose containers ask for memory.
func guaranteed(name string, init []string, main ...string) *v1.Pod {
	p := &v1.Pod{}
	p.Name, p.UID = name, types.UID(name)
	containers := func(prefix string, sizes []string) (out []v1.Container) {
		for i, size := range sizes {
			list := v1.ResourceList{v1.ResourceCPU: resource.MustParse("1"), v1.ResourceMemory: resource.MustParse(size)}
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
	m := manager(t, t.TempDir())
	for _, step := range []struct {
		name string
		pod  *v1.Pod
		hint topology.Hint
		want []int
		err  string
	}{
		{"anywhere", guaranteed("a", nil, "4Gi"), topology.Hint{}, []int{0}, ""},
		{"where the hint says", guaranteed("b", nil, "4Gi"), topology.Hint{Nodes: topology.NewMask(1)}, []int{1}, ""},
		{"where there is room", guaranteed("c", nil, "6Gi"), topology.Hint{}, []int{1}, ""},
		{"after an init container", guaranteed("d", []string{"5Gi"}, "4Gi"), topology.Hint{}, []int{0}, ""},
		{"none left on one node, and both serve alone", guaranteed("e", nil, "1Gi"), topology.Hint{}, nil, "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"},
	} {
		err := admit(t, m, step.pod, step.hint)
		if step.err != "" {
			if err == nil || err.Error() != step.err {
				t.Errorf("%s: got %v, want %s", step.name, err, step.err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.want, m.Nodes(step.pod.UID, "c0")); diff != "" {
			t.Errorf("%s: nodes (-want +got):\n%s", step.name, diff)
		}
	}
	// The init container keeps what its successor does not use.
	if diff := cmp.Diff([]state.Block{{NUMAAffinity: []int{0}, Type: "memory", Size: gib}}, m.Blocks("d", "i0")); diff != "" {
		t.Errorf("the init container's blocks (-want +got):\n%s", diff)
	}
	if err := m.Release("a"); err != nil {
		t.Fatal(err)
	}
	if err := admit(t, m, guaranteed("f", nil, "4Gi"), topology.Hint{}); err != nil {
		t.Errorf("after one was given back: %v", err)
	}
}

func TestTwoNodesTogether(t *testing.T) {
	m := manager(t, t.TempDir())
	if err := admit(t, m, guaranteed("wide", nil, "12Gi"), topology.Hint{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{0, 1}, m.Nodes("wide", "c0")); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	// Both serve as a group now: a small one gets memory of the group.
	if err := admit(t, m, guaranteed("small", nil, "1Gi"), topology.Hint{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{0, 1}, m.Nodes("small", "c0")); diff != "" {
		t.Errorf("nodes of the small one (-want +got):\n%s", diff)
	}
}

func TestHints(t *testing.T) {
	zero, one, both := topology.NewMask(0), topology.NewMask(1), topology.NewMask(0, 1)
	for _, tc := range []struct {
		name string
		ask  string
		want []topology.Hint
	}{
		{"either node", "4Gi", []topology.Hint{{Nodes: zero, Preferred: true}, {Nodes: one, Preferred: true}, {Nodes: both}}},
		{"without what is reserved", "9.5Gi", []topology.Hint{{Nodes: one, Preferred: true}, {Nodes: both}}},
		{"both", "15Gi", []topology.Hint{{Nodes: both, Preferred: true}}},
		{"never", "50Gi", []topology.Hint{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, p := manager(t, t.TempDir()), guaranteed("p", nil, tc.ask)
			if diff := cmp.Diff(tc.want, m.Hints(p, &p.Spec.Containers[0])["memory"]); diff != "" {
				t.Errorf("hints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRestore(t *testing.T) {
	dir := t.TempDir()
	m := manager(t, dir)
	if err := admit(t, m, guaranteed("a", nil, "4Gi"), topology.Hint{Nodes: topology.NewMask(1)}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1}, manager(t, dir).Nodes("a", "c0")); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	none, err := New(Config{Policy: None, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Restore(); err == nil || !strings.Contains(err.Error(), "please drain this node and delete the memory manager checkpoint file") {
		t.Errorf("another policy: got %v", err)
	}
	other := machine()
	other.Nodes[0].Memory /= 2
	m, err = New(Config{Policy: Static, Machine: other, Dir: dir, Reserved: []kubeletv1beta1.MemoryReservation{reserve(0, v1.ResourceMemory, "1Gi")}, Total: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(); err == nil || !strings.Contains(err.Error(), "the expected machine state is different from the real one") {
		t.Errorf("another machine: got %v", err)
	}
}

func TestReservations(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		reserved   []kubeletv1beta1.MemoryReservation
	}{
		{"too little", `the total amount "512Mi" of type "memory" is not equal to the value "1Gi" determined by Node Allocatable feature`, []kubeletv1beta1.MemoryReservation{reserve(0, v1.ResourceMemory, "512Mi")}},
		{"huge pages", `of type "hugepages-2Mi" is not equal to the value "0"`, []kubeletv1beta1.MemoryReservation{reserve(0, v1.ResourceMemory, "1Gi"), reserve(1, "hugepages-2Mi", "2Mi")}},
		{"unknown node", "references a NUMA node 7 that does not exist", []kubeletv1beta1.MemoryReservation{reserve(7, v1.ResourceMemory, "1Gi")}},
	} {
		_, err := New(Config{Policy: Static, Machine: machine(), Dir: "/", Reserved: tc.reserved, Total: v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi")}})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}
