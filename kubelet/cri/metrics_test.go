package cri_test

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Covers: node.cri
func TestMetricsAreAsDescribed(t *testing.T) {
	n := newNode(t)
	n.pull()
	sb, scfg := n.pod("measured")
	n.run(sb, scfg, "main", []string{"sleep"}, func(c *runtimeapi.ContainerConfig) {
		c.Linux.Resources = &runtimeapi.LinuxContainerResources{CpuShares: 512, CpuPeriod: 100000, CpuQuota: 50000, MemoryLimitInBytes: 64 << 20}
	})
	described, err := n.ListMetricDescriptors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	labels := make(map[string][]string)
	for _, d := range described {
		if d.Help == "" || labels[d.Name] != nil {
			t.Errorf("%s is described twice, or not at all", d.Name)
		}
		labels[d.Name] = d.LabelKeys
	}
	pods, err := n.ListPodSandboxMetrics(t.Context())
	if err != nil || len(pods) != 1 || len(pods[0].ContainerMetrics) != 1 {
		t.Fatalf("metrics: %v, %v", pods, err)
	}
	got := make(map[string]*runtimeapi.Metric)
	for _, m := range append(pods[0].Metrics, pods[0].ContainerMetrics[0].Metrics...) {
		if want, ok := labels[m.Name]; !ok || len(m.LabelValues) != len(want) {
			t.Errorf("%s has the labels %q, described are %q", m.Name, m.LabelValues, want)
		}
		got[m.Name] = m
	}
	for name, want := range map[string]uint64{
		"container_processes": 1, "container_spec_memory_limit_bytes": 64 << 20, "container_spec_cpu_quota": 50000,
		"container_spec_cpu_period": 100000, "container_spec_cpu_shares": 512, "container_oom_events_total": 0,
	} {
		if m := got[name]; m == nil || m.Value.Value != want {
			t.Errorf("%s is %v, want %d", name, m, want)
		}
	}
	for _, name := range []string{"container_file_descriptors", "container_threads", "container_memory_max_usage_bytes", "container_start_time_seconds", "container_ulimits_soft", "container_fs_inodes_total"} {
		if m := got[name]; m == nil || m.Value.Value == 0 {
			t.Errorf("%s is %v, want something", name, m)
		}
	}
	if m := got["container_network_receive_bytes_total"]; m == nil || !slices.Contains(m.LabelValues, "eth0") {
		t.Errorf("received bytes: %v, want those of eth0", m)
	}
}

func TestUserNamespaceThatIsNoneIsRefused(t *testing.T) {
	n := newNode(t)
	ids := func(first uint32, more ...*runtimeapi.IDMapping) []*runtimeapi.IDMapping {
		return append([]*runtimeapi.IDMapping{{ContainerId: first, HostId: 65536, Length: 65536}}, more...)
	}
	const pod = runtimeapi.NamespaceMode_POD
	for _, tc := range []struct {
		name  string
		users *runtimeapi.UserNamespace
	}{
		{"of the container", &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_CONTAINER}},
		{"of another container", &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_TARGET, Uids: ids(0), Gids: ids(0)}},
		{"no mapping", &runtimeapi.UserNamespace{Mode: pod}},
		{"no mapping of groups", &runtimeapi.UserNamespace{Mode: pod, Uids: ids(0)}},
		{"no root", &runtimeapi.UserNamespace{Mode: pod, Uids: ids(1), Gids: ids(1)}},
		{"empty", &runtimeapi.UserNamespace{Mode: pod, Uids: []*runtimeapi.IDMapping{{HostId: 65536}}, Gids: ids(0)}},
		{"two mappings", &runtimeapi.UserNamespace{Mode: pod, Uids: ids(0, ids(65536)...), Gids: ids(0)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := n.RunPodSandbox(t.Context(), &runtimeapi.PodSandboxConfig{
				Metadata: &runtimeapi.PodSandboxMetadata{Name: "p", Namespace: "default", Uid: "u"},
				Linux: &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
					NamespaceOptions: &runtimeapi.NamespaceOption{UsernsOptions: tc.users},
				}},
			}, "")
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("got %v, want it refused", err)
			}
		})
	}
}
