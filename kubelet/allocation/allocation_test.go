package allocation

import (
	"os"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func amounts(cpu, memory string) v1.ResourceRequirements {
	return v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}}
}

func pod(r v1.ResourceRequirements) *v1.Pod {
	return &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Resources: r}}, InitContainers: []v1.Container{{Name: "i", Resources: r}}}}
}

// What a pod was given stays until it is given something else, whatever it asks
// for, and outlives the kubelet.
func TestStore(t *testing.T) {
	root := t.TempDir()
	dir := func(uid types.UID) string { return filepath.Join(root, string(uid)) }
	s := New(dir)
	if _, known := s.Given("u"); known {
		t.Error("a pod that nobody knows was given something")
	}
	before, after := amounts("1", "1Gi"), amounts("2", "1Gi")
	if err := s.Give("u", Of(pod(before))); err != nil {
		t.Fatal(err)
	}
	if err := s.Set("u", Resources{"id": before}); err != nil {
		t.Fatal(err)
	}
	s = New(dir)
	given, known := s.Given("u")
	if !known || !Same(given, Of(pod(amounts("1000m", "1024Mi")))) || Same(given, Of(pod(after))) {
		t.Errorf("a later kubelet finds %v", given)
	}
	asks := pod(after)
	if got := given.In(asks); got.Spec.Containers[0].Resources.Requests.Cpu().Value() != 1 || got.Spec.InitContainers[0].Resources.Requests.Cpu().Value() != 1 {
		t.Errorf("the pod has %v", got.Spec)
	}
	if asks.Spec.Containers[0].Resources.Requests.Cpu().Value() != 2 {
		t.Error("the pod itself was changed")
	}
	if err := s.Give("u", Of(asks)); err != nil {
		t.Fatal(err)
	}
	if is, ok := s.Actual("u", "id"); !ok || is.Requests.Cpu().Value() != 1 {
		t.Errorf("the container has %v", is)
	}
	if err := s.Set("u", Resources{"other": after}); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Actual("u", "id"); ok {
		t.Error("a container that ended is still known")
	}
}

// What a pod has as a whole is given as its containers' resources are.
func TestStoreWholePod(t *testing.T) {
	root := t.TempDir()
	dir := func(types.UID) string { return root }
	before, after := amounts("1", "1Gi"), amounts("2", "1Gi")
	asks := pod(v1.ResourceRequirements{})
	asks.Spec.Resources = &before
	if err := New(dir).Give("u", Of(asks)); err != nil {
		t.Fatal(err)
	}
	given, known := New(dir).Given("u")
	asks.Spec.Resources = &after
	if !known || Same(given, Of(asks)) {
		t.Fatalf("a later kubelet takes %v for all that the pod asks for", given)
	}
	if got := given.In(asks).Spec.Resources.Requests.Cpu().Value(); got != 1 {
		t.Errorf("the pod has %d CPUs, want the 1 that it was given", got)
	}
	if got := asks.Spec.Resources.Requests.Cpu().Value(); got != 2 {
		t.Errorf("the pod itself was changed to %d CPUs", got)
	}
}

// A record that cannot be read is as none: the pod has what it asks for.
func TestStoreTorn(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, file), []byte(`{"given":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if given, known := New(func(types.UID) string { return root }).Given("u"); known {
		t.Errorf("a torn record gives %v", given)
	}
}

func TestCompare(t *testing.T) {
	kernel := func(shares, quota, memory int64) *runtimeapi.LinuxContainerResources {
		return &runtimeapi.LinuxContainerResources{CpuShares: shares, CpuQuota: quota, MemoryLimitInBytes: memory}
	}
	one, more := amounts("1", "1Gi"), amounts("1", "2Gi")
	tests := map[string]struct {
		have, want *runtimeapi.LinuxContainerResources
		was, is    v1.ResourceRequirements
		change     Change
	}{
		"same":                       {have: kernel(1024, -1, 0), want: kernel(1024, 0, 0), was: one, is: one},
		"shares":                     {have: kernel(1024, 0, 0), want: kernel(2048, 0, 0), was: one, is: one, change: Change{CPU: true}},
		"quota":                      {have: kernel(2, 1000, 0), want: kernel(2, 2000, 0), was: one, is: one, change: Change{CPU: true}},
		"memory limit":               {have: kernel(2, 0, 100), want: kernel(2, 0, 200), was: one, is: one, change: Change{Memory: true}},
		"a request the kernel lacks": {have: kernel(2, 0, 0), want: kernel(2, 0, 0), was: one, is: more, change: Change{Memory: true}},
		"a runtime that is silent":   {have: nil, want: kernel(2, 0, 100), was: one, is: one},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Compare(tt.have, tt.want, &tt.was, &tt.is); got != tt.change {
				t.Errorf("the change is %+v, want %+v", got, tt.change)
			}
		})
	}
}

func TestRestarts(t *testing.T) {
	spec := &v1.Container{ResizePolicy: []v1.ContainerResizePolicy{
		{ResourceName: v1.ResourceCPU, RestartPolicy: v1.NotRequired}, {ResourceName: v1.ResourceMemory, RestartPolicy: v1.RestartContainer},
	}}
	for change, want := range map[Change]bool{{}: false, {CPU: true}: false, {Memory: true}: true, {CPU: true, Memory: true}: true} {
		if got := change.Restarts(spec); got != want {
			t.Errorf("%+v restarts the container: %v, want %v", change, got, want)
		}
	}
}
