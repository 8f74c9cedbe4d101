package kubelet

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/mount-utils"
	"k8s.io/utils/ptr"

	"skiff/kubelet/config"
	"skiff/kubelet/critest"
)

// Covers: node.managers
func TestStateThatDoesNotFit(t *testing.T) {
	for _, tc := range []struct{ name, file, text, want string }{
		{"the memory manager's", "memory_manager_state", "not a state", "delete the memory manager checkpoint file"},
		{"the CPU manager's", "cpu_manager_state", "not a state", "delete the CPU manager checkpoint file"},
		{"the devices'", "device-plugins/kubelet_internal_checkpoint", "not a state", "drain the node and remove the file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			file := filepath.Join(root, "kubelet", tc.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			conf := config.Default()
			conf.EvictionHard = map[string]string{"memory.available": "1Mi"}
			conf.HealthzPort = ptr.To[int32](0)
			client, rt := fake.NewClientset(newPod("a")), critest.New("img:1")
			k, err := New(Config{
				Client: client, NodeName: "n1", NodeIPs: []string{"10.1.0.1"}, Runtime: rt, Images: rt, Kubelet: conf,
				Paths:    Paths{Root: filepath.Join(root, "kubelet"), PodLogs: filepath.Join(root, "pods"), ContainerLogs: filepath.Join(root, "containers")},
				Listener: listener, DisableCgroups: true, Mounter: mount.NewFakeMounter(nil),
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			nodes, err := client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer nodes.Stop()
			done := make(chan error, 1)
			go func() { done <- k.Run(ctx) }()
			await := func(ready v1.ConditionStatus, text string) {
				t.Helper()
				for {
					select {
					case err := <-done:
						t.Fatalf("the kubelet ended: %v", err)
					case e := <-nodes.ResultChan():
						node, ok := e.Object.(*v1.Node)
						if !ok {
							t.Fatalf("waited for Ready=%s with %q", ready, text)
						}
						for _, c := range node.Status.Conditions {
							if c.Type == v1.NodeReady && c.Status == ready && strings.Contains(c.Message, text) {
								return
							}
						}
					}
				}
			}
			await(v1.ConditionFalse, tc.want)
			for _, call := range rt.Calls() {
				if strings.HasPrefix(call, "RunPodSandbox") {
					t.Errorf("a pod was started on a node whose state is not known: %s", call)
				}
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if !k.restore(ctx) {
				t.Fatal("the state does not fit although the file is gone")
			}
			k.node.Poke()
			await(v1.ConditionTrue, "kubelet is posting ready status")
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}
