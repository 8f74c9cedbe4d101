package stats

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A container tells when it started, and an interface is counted once, whether or not
// the runtime lists the pod's own with the others.
func TestPod(t *testing.T) {
	started := metav1.NewTime(time.Unix(1000, 0))
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Status: v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{
		{Name: "a", ContainerID: "runtime://1", State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: started}}},
		{Name: "b", ContainerID: "runtime://2"},
	}}}
	eth := func(name string) *runtimeapi.NetworkInterfaceUsage {
		return &runtimeapi.NetworkInterfaceUsage{Name: name}
	}
	for _, tt := range []struct {
		name   string
		others []*runtimeapi.NetworkInterfaceUsage
		want   []string
	}{
		{"listed", []*runtimeapi.NetworkInterfaceUsage{eth("eth0"), eth("net1")}, []string{"eth0", "net1"}},
		{"not listed", []*runtimeapi.NetworkInterfaceUsage{eth("net1")}, []string{"net1", "eth0"}},
		{"alone", nil, []string{"eth0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			p := &Provider{cfg: Config{
				Pods: func() []*v1.Pod { return []*v1.Pod{pod} }, PodDir: func(types.UID) string { return dir }, LogDir: func(*v1.Pod) string { return dir },
			}, rates: map[string]sample{}, disk: map[types.UID]diskUsage{}}
			out := p.pod(t.Context(), &runtimeapi.PodSandboxStats{
				Attributes: &runtimeapi.PodSandboxAttributes{Metadata: &runtimeapi.PodSandboxMetadata{Uid: "u"}},
				Linux: &runtimeapi.LinuxPodSandboxStats{
					Containers: []*runtimeapi.ContainerStats{{Attributes: &runtimeapi.ContainerAttributes{Id: "1", Metadata: &runtimeapi.ContainerMetadata{Name: "a"}}}, {Attributes: &runtimeapi.ContainerAttributes{Id: "2", Metadata: &runtimeapi.ContainerMetadata{Name: "b"}}}},
					Network:    &runtimeapi.NetworkUsage{DefaultInterface: eth("eth0"), Interfaces: tt.others},
				},
			}, false)
			var names []string
			for _, i := range out.Network.Interfaces {
				names = append(names, i.Name)
			}
			if diff := cmp.Diff(tt.want, names); diff != "" || out.Network.Name != "eth0" {
				t.Errorf("interfaces of %q (-want +got):\n%s", out.Network.Name, diff)
			}
			if diff := cmp.Diff([]metav1.Time{started, {}}, []metav1.Time{out.Containers[0].StartTime, out.Containers[1].StartTime}); diff != "" {
				t.Errorf("starts (-want +got):\n%s", diff)
			}
		})
	}
}
