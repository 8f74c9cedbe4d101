package podresources

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/testing/protocmp"
	v1 "k8s.io/api/core/v1"
	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"
	"k8s.io/utils/ptr"
)

// serve runs a server over a pod and returns a client.
func serve(t *testing.T) podresourcesapi.PodResourcesListerClient {
	t.Helper()
	// Not t.TempDir: an address holds few characters.
	dir, err := os.MkdirTemp("", "pr")
	if err != nil {
		t.Fatal(err)
	}
	pod := &v1.Pod{}
	pod.Name, pod.Namespace = "p", "ns"
	pod.Spec.InitContainers = []v1.Container{{Name: "first"}, {Name: "beside", RestartPolicy: ptr.To(v1.ContainerRestartPolicyAlways)}}
	pod.Spec.Containers = []v1.Container{{Name: "main"}}
	s, err := New(Config{
		Socket: filepath.Join(dir, "pod-resources", "kubelet.sock"), Pods: func() []*v1.Pod { return []*v1.Pod{pod} },
		Container: func(_ *v1.Pod, c *v1.Container) *podresourcesapi.ContainerResources {
			return &podresourcesapi.ContainerResources{CpuIds: []int64{int64(len(c.Name))}}
		},
		Allocatable: func() *podresourcesapi.AllocatableResourcesResponse {
			return &podresourcesapi.AllocatableResourcesResponse{CpuIds: []int64{0, 1}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn, err := grpc.NewClient("unix://"+s.cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = os.RemoveAll(dir)
	})
	return podresourcesapi.NewPodResourcesListerClient(conn)
}

func TestServer(t *testing.T) {
	client := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	want := &podresourcesapi.PodResources{Name: "p", Namespace: "ns", Containers: []*podresourcesapi.ContainerResources{
		{Name: "beside", CpuIds: []int64{6}}, {Name: "main", CpuIds: []int64{4}},
	}}
	list, err := client.List(ctx, &podresourcesapi.ListPodResourcesRequest{})
	if diff := cmp.Diff([]*podresourcesapi.PodResources{want}, list.GetPodResources(), protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("List: %v (-want +got):\n%s", err, diff)
	}
	one, err := client.Get(ctx, &podresourcesapi.GetPodResourcesRequest{PodName: "p", PodNamespace: "ns"})
	if diff := cmp.Diff(want, one.GetPodResources(), protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("Get: %v (-want +got):\n%s", err, diff)
	}
	if _, err := client.Get(ctx, &podresourcesapi.GetPodResourcesRequest{PodName: "q", PodNamespace: "ns"}); err == nil || !strings.Contains(err.Error(), "pod q in namespace ns not found") {
		t.Errorf("Get of an unknown pod: %v", err)
	}
	all, err := client.GetAllocatableResources(ctx, &podresourcesapi.AllocatableResourcesRequest{})
	if err != nil || len(all.CpuIds) != 2 {
		t.Errorf("GetAllocatableResources: %v, %v", all, err)
	}
}

func TestTooManyCalls(t *testing.T) {
	client := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := client.List(ctx, &podresourcesapi.ListPodResourcesRequest{}); err != nil {
			if !strings.Contains(err.Error(), "rejected by rate limit") {
				t.Errorf("got %v", err)
			}
			return
		}
	}
	t.Error("no call was rejected")
}
