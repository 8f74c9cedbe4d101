package kubelet

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/containers"
	"skiff/kubelet/nodestatus"
	"skiff/kubelet/podstate"
	"skiff/kubelet/status"
	"skiff/kubelet/stopsignal"
)

// notOurs are the fields of a pod's status that the kubelet does not set, by
// path, and why. A path stands for all below it.
var notOurs = map[string]string{
	"Resize":                                                   "replaced by the conditions PodResizePending and PodResizeInProgress",
	"Conditions.LastProbeTime":                                 "upstream's kubelet leaves it empty",
	"ResourceClaimStatuses":                                    "the resource claim controller's",
	"ExtendedResourceClaimStatus":                              "the scheduler's",
	"NodeAllocatableResourceClaimStatuses":                     "the scheduler's",
	"VolumeHealth":                                             "alpha: CSIVolumeHealth is off",
	"Resources.Claims":                                         "a pod as a whole claims nothing by them",
	"ContainerStatuses.Resources.Claims":                       "set as the spec has them; claims are told in ResourceClaimStatuses",
	"ContainerStatuses.LastTerminationState.Waiting":           "what is over has ended",
	"ContainerStatuses.LastTerminationState.Running":           "what is over has ended",
	"ContainerStatuses.State.Terminated.Signal":                "CRI tells exit codes only: 128 and the signal's number",
	"ContainerStatuses.LastTerminationState.Terminated.Signal": "CRI tells exit codes only: 128 and the signal's number",
}

// notOurNodes are those of a node's status.
var notOurNodes = map[string]string{
	"Phase":                           "deprecated and never set",
	"VolumesAttached":                 "the attach and detach controller's",
	"Config":                          "dynamic configuration of kubelets was removed",
	"NodeInfo.KubeProxyVersion":       "deprecated: a kubelet does not know it",
	"NodeInfo.RunningInUserNamespace": "alpha: KubeletInUserNamespace is off",
}

// statusFields collects the fields of a type by path, and whether any of the values
// given has them. Lists and pointers are looked through.
type statusFields map[string]bool

func (f statusFields) add(t reflect.Type, v reflect.Value, path string) {
	switch {
	case t.Kind() == reflect.Pointer:
		if !v.IsValid() || v.IsNil() {
			f.add(t.Elem(), reflect.Value{}, path)
			return
		}
		// That it is there counts: false and 0 mean something behind a pointer.
		f.add(t.Elem(), v.Elem(), path)
		if _, leaf := f[path]; leaf {
			f[path] = true
		}
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		f.add(t.Elem(), reflect.Value{}, path)
		for i := range length(v) {
			f.add(t.Elem(), v.Index(i), path)
		}
	case t.Kind() == reflect.Struct && t != reflect.TypeFor[metav1.Time]() && t != reflect.TypeFor[resource.Quantity]():
		for i := range t.NumField() {
			var value reflect.Value
			if v.IsValid() {
				value = v.Field(i)
			}
			f.add(t.Field(i).Type, value, strings.TrimPrefix(path+"."+t.Field(i).Name, "."))
		}
	default:
		f[path] = f[path] || v.IsValid() && !v.IsZero()
	}
}

func length(v reflect.Value) int {
	if !v.IsValid() {
		return 0
	}
	return v.Len()
}

// check compares the fields that are set with the reasons for those that are not.
func (f statusFields) check(t *testing.T, reasons map[string]string) {
	t.Helper()
	used := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(f)) {
		reason := ""
		for at := path; ; {
			if _, ok := reasons[at]; ok {
				reason, used[at] = at, true
			}
			cut := strings.LastIndex(at, ".")
			if cut < 0 {
				break
			}
			at = at[:cut]
		}
		switch {
		case f[path] && reason != "":
			t.Errorf("%s is set, and listed as not ours: %s", path, reasons[reason])
		case !f[path] && reason == "":
			t.Errorf("%s is never set: set it, or say who does or why not", path)
		}
	}
	for path := range reasons {
		if !used[path] {
			t.Errorf("%s is listed and no field", path)
		}
	}
}

type everReady struct{ ready bool }

func (e everReady) Started(*v1.Pod, *v1.Container, string) bool { return true }
func (e everReady) Ready(*v1.Pod, *v1.Container, string) bool   { return e.ready }

// Every field of a pod's status is set in some case, or listed as not ours.
func TestEveryFieldOfPodStatus(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ask := v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}, Limits: v1.ResourceList{v1.ResourceCPU: resource.MustParse("2")}}
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: 3},
		Spec: v1.PodSpec{Resources: &ask, RestartPolicy: v1.RestartPolicyAlways, ReadinessGates: []v1.PodReadinessGate{{ConditionType: "example.com/gate"}}, Containers: []v1.Container{
			{Name: "main", Image: "i", Resources: ask, VolumeMounts: []v1.VolumeMount{{Name: "v", MountPath: "/v", ReadOnly: true}}}, {Name: "crashes", Image: "i"},
		}},
	}
	state := &podstate.Pod{
		Sandboxes: []podstate.Sandbox{{ID: "s", Ready: true, IPs: []string{"10.0.0.1", "fd00::1"}}},
		Containers: []podstate.Container{
			{
				ID: "main-id", Name: "main", State: podstate.Running, StartedAt: at, Image: "i", ImageRef: "i@sha256:0", RestartCount: 1, StopSignal: stopsignal.ToCRI("SIGTERM"),
				User:   &runtimeapi.LinuxContainerUser{Uid: 1, Gid: 2, SupplementalGroups: []int64{3}},
				Mounts: []*runtimeapi.Mount{{ContainerPath: "/v", Readonly: true, Image: &runtimeapi.ImageSpec{Image: "data@sha256:0"}}},
			},
			{ID: "main-old", Name: "main", State: podstate.Exited, ExitCode: 3, StartedAt: at, FinishedAt: at},
			{ID: "crashes-id", Name: "crashes", State: podstate.Exited, ExitCode: 3, StartedAt: at, FinishedAt: at},
		},
	}
	in := status.Input{
		Pod: pod, State: state, Probes: everReady{true}, HostIPs: []string{"192.0.2.1"}, Runtime: "skiff", Now: metav1.Now(),
		Old:    v1.PodStatus{NominatedNodeName: "n"},
		Resize: []v1.PodCondition{{Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: v1.PodReasonDeferred, Message: "no room"}},
		Resources: func(string) []v1.ResourceStatus {
			return []v1.ResourceStatus{{Name: "example.com/d", Resources: []v1.ResourceHealth{{ResourceID: "0", Health: v1.ResourceHealthStatusHealthy, Message: ptr.To("well")}}}}
		},
		Message: func(*podstate.Container) string { return "last words" },
		Reason:  func(string) (containers.Reason, bool) { return containers.Reason{}, false },
	}
	waits, failed := in, in
	waits.Reason = func(string) (containers.Reason, bool) {
		return containers.Reason{Reason: "CrashLoopBackOff", Message: "back-off"}, true
	}
	failed.Failure = &status.Failure{Reason: "Evicted", Message: "The node was low on resource: memory. "}
	got := statusFields{}
	for _, each := range []status.Input{in, waits, failed} {
		st := status.Generate(each)
		// The lists of containers are of one type.
		st.ContainerStatuses = slices.Concat(st.ContainerStatuses, st.InitContainerStatuses, st.EphemeralContainerStatuses)
		got.add(reflect.TypeFor[v1.PodStatus](), reflect.ValueOf(st), "")
	}
	for path := range got {
		if strings.HasPrefix(path, "InitContainerStatuses.") || strings.HasPrefix(path, "EphemeralContainerStatuses.") {
			delete(got, path)
		}
	}
	got.check(t, notOurs)

	st := status.Generate(in)
	if st.PodIP != "10.0.0.1" || len(st.PodIPs) != 2 || st.PodIPs[0].IP != st.PodIP || st.HostIPs[0].IP != st.HostIP {
		t.Errorf("addresses %v and %v, want the primary ones %q and %q first", st.PodIPs, st.HostIPs, st.PodIP, st.HostIP)
	}
	for _, c := range st.Conditions {
		if c.ObservedGeneration != pod.Generation {
			t.Errorf("condition %s is of generation %d, want %d", c.Type, c.ObservedGeneration, pod.Generation)
		}
	}
}

// Every field of a node's status is set in some case, or listed as not ours.
func TestEveryFieldOfNodeStatus(t *testing.T) {
	client := fake.NewClientset()
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan *v1.Node, 10)
	room := v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}
	m, err := nodestatus.New(nodestatus.Config{
		Client: client, Name: "n", IPs: []string{"192.0.2.1"}, Hostname: "n", Register: true, Port: 10250, Capacity: room, Allocatable: room, Version: "v1",
		Machine: &nodestatus.Machine{MachineID: "m", SystemUUID: "s", BootID: "b", Kernel: "k", OSImage: "o", Architecture: "a", Swap: 1},
		State: func(context.Context) nodestatus.State {
			yes := ptr.To(true)
			return nodestatus.State{
				RuntimeVersion: "skiff://1", Images: []v1.ContainerImage{{Names: []string{"i"}, SizeBytes: 1}}, VolumesInUse: []v1.UniqueVolumeName{"v"},
				Handlers: []v1.NodeRuntimeHandler{{Name: "skiff", Features: &v1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: yes, UserNamespaces: yes}}},
				Features: &v1.NodeFeatures{SupplementalGroupsPolicy: yes},
			}
		},
		OnNode: func(n *v1.Node) { seen <- n },
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	node := <-seen
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	got := statusFields{}
	got.add(reflect.TypeFor[v1.NodeStatus](), reflect.ValueOf(node.Status), "")
	got.check(t, notOurNodes)
}
