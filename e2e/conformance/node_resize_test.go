package conformance

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// nodeAmounts are a container's requests and limits, each as cpu/memory with
// either left out where it is empty.
type nodeAmounts struct{ requests, limits string }

func (a nodeAmounts) resources() corev1.ResourceRequirements {
	list := func(text string) corev1.ResourceList {
		cpu, memory, _ := strings.Cut(text, "/")
		var out corev1.ResourceList
		for name, value := range map[corev1.ResourceName]string{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory} {
			if value != "" {
				if out == nil {
					out = corev1.ResourceList{}
				}
				out[name] = resource.MustParse(value)
			}
		}
		return out
	}
	return corev1.ResourceRequirements{Requests: list(a.requests), Limits: list(a.limits)}
}

func nodeResizePod(containers []nodeAmounts, policy corev1.ResourceResizeRestartPolicy) *corev1.Pod {
	p := shellPod("pod", "sleep 1d")
	p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
	main := p.Spec.Containers[0]
	p.Spec.Containers = nil
	for i, c := range containers {
		main.Name, main.Resources = fmt.Sprintf("c%d", i+1), c.resources()
		if policy != "" {
			main.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired}, {ResourceName: corev1.ResourceMemory, RestartPolicy: policy}}
		}
		p.Spec.Containers = append(p.Spec.Containers, main)
	}
	return p
}

// nodeResized waits until a pod says that it has resources, and looks for them
// in each container's cgroup.
func nodeResized(s *space, want []nodeAmounts, restarts int32) *corev1.Pod {
	s.t.Helper()
	var got *corev1.Pod
	s.eventually(60*time.Second, "end of the resize", func() error {
		p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{})
		s.must(err)
		got = p
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress {
				return fmt.Errorf("condition %+v", c)
			}
		}
		if nodeCondition(p, corev1.PodReady) != corev1.ConditionTrue {
			return fmt.Errorf("it is not Ready: %+v", p.Status.Conditions)
		}
		for i, a := range want {
			c := p.Status.ContainerStatuses[i]
			if c.Resources == nil || !nodeSame(*c.Resources, a.resources()) {
				return fmt.Errorf("container %s has %+v, want %+v", c.Name, c.Resources, a)
			}
			if c.RestartCount != restarts {
				return fmt.Errorf("container %s was started again %d times, want %d", c.Name, c.RestartCount, restarts)
			}
		}
		return nil
	})
	for i, a := range want {
		nodeCgroup(s, got, i, a)
	}
	return got
}

// nodeSame tells whether resources are written the same: 35Mi is not 36700160.
func nodeSame(a, b corev1.ResourceRequirements) bool {
	ja, erra := json.Marshal(a)
	jb, errb := json.Marshal(b)
	return erra == nil && errb == nil && string(ja) == string(jb)
}

// nodeCgroup reads the settings of a container's cgroup from inside.
func nodeCgroup(s *space, p *corev1.Pod, container int, a nodeAmounts) {
	s.t.Helper()
	r := a.resources()
	request := r.Requests.Cpu().MilliValue()
	if request == 0 {
		request = r.Limits.Cpu().MilliValue()
	}
	shares := max(request*1024/1000, 2)
	quota, memory := int64(-1), r.Limits.Memory().Value()
	if limit := r.Limits.Cpu().MilliValue(); limit > 0 {
		quota = max(limit*100, 1000)
	}
	files := map[string]string{"cpu/cpu.shares": strconv.FormatInt(shares, 10), "cpu/cpu.cfs_quota_us": strconv.FormatInt(quota, 10)}
	if memory > 0 {
		files["memory/memory.limit_in_bytes"] = strconv.FormatInt(memory, 10)
	}
	if strings.TrimSpace(s.mustExec("pod", "c1", "mount", "-t", "cgroup2")) != "" {
		limit := strconv.FormatInt(quota, 10)
		if quota < 0 {
			limit = "max"
		}
		files = map[string]string{"cpu.max": limit + " 100000"}
		if memory > 0 {
			files["memory.max"] = strconv.FormatInt(memory, 10)
		}
	}
	name := p.Status.ContainerStatuses[container].Name
	for file, want := range files {
		if out := strings.TrimSpace(s.mustExec("pod", name, "head", "-n", "1", "/sys/fs/cgroup/"+file)); out != want {
			s.t.Errorf("%s of container %s is %s, want %s for %+v", file, name, out, want, a)
		}
	}
}

// nodeResize asks for other resources with the patch that kubectl would send.
func nodeResize(s *space, from, to []nodeAmounts, policy corev1.ResourceResizeRestartPolicy) *corev1.Pod {
	s.t.Helper()
	before, err := json.Marshal(nodeResizePod(from, policy))
	s.must(err)
	after, err := json.Marshal(nodeResizePod(to, policy))
	s.must(err)
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	s.must(err)
	p, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, "pod", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "resize")
	s.must(err)
	for i, a := range to {
		if !nodeSame(p.Spec.Containers[i].Resources, a.resources()) {
			s.t.Errorf("the patched spec has %+v, want %+v", p.Spec.Containers[i].Resources, a)
		}
	}
	return p
}

// Covers: node.resize
func TestNodeResize(t *testing.T) {
	guaranteed := func(amounts ...string) (out []nodeAmounts) {
		for _, a := range amounts {
			out = append(out, nodeAmounts{a, a})
		}
		return out
	}
	three := guaranteed("20m/35Mi", "22m/37Mi", "24m/39Mi")
	tests := map[string]struct {
		from, to []nodeAmounts
		policy   corev1.ResourceResizeRestartPolicy
		oneWay   bool
	}{
		// Conformance: [sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, c2, decrease cpu & mem on c3 - net increase [MinimumKubeletVersion:1.34]
		"net increase": {from: three, to: guaranteed("25m/40Mi", "27m/42Mi", "19m/34Mi")},
		// Conformance: [sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase cpu & mem on c1, decrease cpu & mem on c2, c3 - net decrease [MinimumKubeletVersion:1.34]
		"net decrease": {from: three, to: guaranteed("25m/40Mi", "17m/32Mi", "19m/34Mi")},
		// Conformance: [sig-node] Pod InPlace Resize Container guaranteed pods with multiple containers 3 containers - increase: CPU (c1,c3), memory (c2, c3) ; decrease: CPU (c2) [MinimumKubeletVersion:1.34]
		"mixed": {from: three, to: guaranteed("25m/35Mi", "17m/42Mi", "29m/44Mi")},
		// Conformance: [sig-node] Pod InPlace Resize Container burstable pods - extended 6 containers - various operations performed (including adding limits and requests) [MinimumKubeletVersion:1.34]
		"adding": {
			from: []nodeAmounts{{"20m", ""}, {"/35Mi", ""}, {"20m/35Mi", ""}, {"20m", ""}, {"/35Mi", ""}, {"20m/35Mi", "30m/45Mi"}},
			to:   []nodeAmounts{{"25m", "35m"}, {"/30Mi", "/50Mi"}, {"20m/30Mi", ""}, {"15m/35Mi", ""}, {"20m/40Mi", ""}, {"20m/35Mi", "30m/45Mi"}}, oneWay: true},
		// Conformance: [sig-node] Pod InPlace Resize Container burstable pods - extended resize with equivalents [MinimumKubeletVersion:1.34]
		"equivalents": {from: []nodeAmounts{{"2m", "10m"}}, to: []nodeAmounts{{"1m", "5m"}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.ready(nodeResizePod(tt.from, tt.policy))
			nodeResized(s, tt.from, 0)
			restarts := int32(0)
			again := func() int32 {
				if tt.policy == corev1.RestartContainer {
					restarts++
				}
				return restarts
			}
			nodeResize(s, tt.from, tt.to, tt.policy)
			p := nodeResized(s, tt.to, again())
			if p.Generation != 2 || p.Status.ObservedGeneration != 2 {
				t.Errorf("generation %d is observed as %d, want 2", p.Generation, p.Status.ObservedGeneration)
			}
			if !tt.oneWay {
				nodeResize(s, tt.to, tt.from, tt.policy)
				nodeResized(s, tt.from, again())
			}
		})
	}
}

// Conformance: [sig-node] Pod InPlace Resize Container resize pod via the replace endpoint [MinimumKubeletVersion:1.34]
func TestNodeResizeReplace(t *testing.T) {
	s := parallel(t)
	from, to := []nodeAmounts{{"20m/35Mi", "30m/45Mi"}}, []nodeAmounts{{"25m/40Mi", "35m/50Mi"}}
	s.ready(nodeResizePod(from, ""))
	s.eventually(20*time.Second, "replace", func() error {
		p, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{})
		s.must(err)
		p.Spec.Containers[0].Resources = to[0].resources()
		_, err = s.client.CoreV1().Pods(s.name).UpdateResize(s.ctx, "pod", p, metav1.UpdateOptions{})
		return err
	})
	nodeResized(s, to, 0)
	whole, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{})
	s.must(err)
	sub, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{}) // the client has no verb for a subresource's get
	s.must(err)
	s.must(s.client.CoreV1().RESTClient().Get().Resource("pods").Namespace(s.name).Name("pod").SubResource("resize").Do(s.ctx).Into(sub))
	if !equality.Semantic.DeepEqual(whole, sub) {
		t.Errorf("pods/resize differs from the pod (-pod +resize):\n%s", cmp.Diff(whole, sub))
	}
}
