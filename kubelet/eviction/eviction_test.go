package eviction

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

const mib = 1 << 20

func pod(name string, priority int32, edit ...func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
		Spec:       v1.PodSpec{Priority: ptr.To(priority), Containers: []v1.Container{{Name: "main"}}},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func limited(bytes string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse(bytes)}
	}
}

// short is a node of which one signal has less than 100 MiB or 100 of 1000 left.
func short(s Signal) map[Signal]Observation {
	if resourceOf(s) == "inodes" || s == PIDAvailable {
		return map[Signal]Observation{s: {Available: 10, Capacity: 1000}}
	}
	return map[Signal]Observation{s: {Available: 64 * mib, Capacity: 1000 * mib}}
}

// Who is evicted, and in which words.
func TestWhoIsEvicted(t *testing.T) {
	usage := map[types.UID]Usage{
		"small": {Memory: 10 * mib, Disk: 10 * mib, Inodes: 10, Processes: 10, Containers: map[string]int64{"main": 10 * mib}, Memories: map[string]int64{"main": 9 * mib}},
		"big":   {Memory: 50 * mib, Disk: 50 * mib, Inodes: 50, Processes: 50, Containers: map[string]int64{"main": 40 * mib}, Memories: map[string]int64{"main": 45 * mib}},
		"vital": {Memory: 90 * mib, Disk: 90 * mib, Inodes: 90, Processes: 90},
	}
	vital := pod("vital", 2000001000)
	type evicted struct{ Pod, Message, By string }
	for _, tc := range []struct {
		name   string
		signal Signal
		pods   []*v1.Pod
		want   evicted
	}{
		{"memory", MemoryAvailable, []*v1.Pod{pod("small", 0), pod("big", 0), vital}, evicted{"big", "The node was low on resource: memory. Threshold quantity: 100Mi, available: 64Mi. Container main was using 45Mi, request is 0, has larger consumption of memory. ", "memory.available"}},
		{"disk", NodeFsAvailable, []*v1.Pod{pod("small", 0), pod("big", 0), vital}, evicted{"big", "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 64Mi. Container main was using 40Mi, request is 0, has larger consumption of ephemeral-storage. ", "nodefs.available"}},
		{"images' disk", ImageFsAvailable, []*v1.Pod{pod("small", 0)}, evicted{"small", "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 64Mi. Container main was using 10Mi, request is 0, has larger consumption of ephemeral-storage. ", "imagefs.available"}},
		{"inodes", NodeFsInodesFree, []*v1.Pod{pod("small", 0), pod("big", 0), vital}, evicted{"big", "The node was low on resource: inodes. Threshold quantity: 100, available: 10. ", "nodefs.inodesFree"}},
		{"processes", PIDAvailable, []*v1.Pod{pod("small", 0), pod("big", 0), vital}, evicted{"big", "The node was low on resource: pids. Threshold quantity: 100, available: 10. ", "pid.available"}},
		{"the less important", MemoryAvailable, []*v1.Pod{pod("small", 1), pod("big", 2)}, evicted{"small", "The node was low on resource: memory. Threshold quantity: 100Mi, available: 64Mi. Container main was using 9Mi, request is 0, has larger consumption of memory. ", "memory.available"}},
		{"nobody who may be", MemoryAvailable, []*v1.Pod{vital}, evicted{}},
		{"over its own limit", PIDAvailable, []*v1.Pod{pod("small", 0, limited("1Mi")), pod("big", 0)}, evicted{"small", `Container main exceeded its local ephemeral storage limit "1Mi". `, "ephemeralcontainerfs.limit"}},
		{"its volumes over its limit", PIDAvailable, []*v1.Pod{pod("big", 0, limited("45Mi"))}, evicted{"big", "Pod ephemeral local storage usage exceeds the total limit of containers 45Mi. ", "ephemeralpodfs.limit"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := "100Mi"
			if _, ok := short(tc.signal)[tc.signal]; ok && short(tc.signal)[tc.signal].Capacity == 1000 {
				text = "10%"
			}
			var got evicted
			m, err := New(Config{
				Hard:    map[string]string{string(tc.signal): text},
				Observe: func(context.Context) map[Signal]Observation { return short(tc.signal) },
				Usage:   func(context.Context) map[types.UID]Usage { return usage },
				Pods:    func() []*v1.Pod { return tc.pods },
				Evicted: func(signal string, age time.Duration) {
					got.By = signal
					if limit := strings.HasSuffix(signal, ".limit"); limit != (age == 0) {
						t.Errorf("the measurement of %s was %v old", signal, age)
					}
				},
				Evict: func(p *v1.Pod, message string, _ int64) <-chan struct{} {
					got.Pod, got.Message = p.Name, message
					done := make(chan struct{})
					close(done)
					return done
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			m.look(t.Context(), time.Now())
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("evicted (-want +got):\n%s", diff)
			}
		})
	}
}

// A node under pressure says so, ends one pod after the other until also the
// least that is to be reclaimed is free, and forgets of it after a while.
func TestPressureComesAndGoes(t *testing.T) {
	available := int64(200 * mib)
	var evicted []string
	var met []v1.ResourceName
	reclaimed := 0
	m, err := New(Config{
		Hard: map[string]string{"nodefs.available": "100Mi"}, MinimumReclaim: map[string]string{"nodefs.available": "50Mi"}, Transition: time.Minute,
		Observe: func(context.Context) map[Signal]Observation {
			return map[Signal]Observation{NodeFsAvailable: {Available: available, Capacity: 1000 * mib}}
		},
		Usage:   func(context.Context) map[types.UID]Usage { return nil },
		Pods:    func() []*v1.Pod { return []*v1.Pod{pod("p", 0)} },
		Met:     func(name v1.ResourceName) { met = append(met, name) },
		Reclaim: func(context.Context) error { reclaimed++; return nil },
		Evict: func(p *v1.Pod, _ string, _ int64) <-chan struct{} {
			evicted = append(evicted, p.Name)
			done := make(chan struct{})
			close(done)
			return done
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, step := range []struct {
		name      string
		available int64
		after     time.Duration
		pressure  bool
		evicted   int
	}{
		{"enough", 200 * mib, 0, false, 0},
		{"too little", 90 * mib, 10 * time.Second, true, 1},
		{"not enough again", 120 * mib, 10 * time.Second, true, 2},
		{"enough again", 151 * mib, 10 * time.Second, true, 2},
		{"between the two, but not under pressure", 120 * mib, 10 * time.Second, true, 2},
		{"for a while", 200 * mib, time.Minute, false, 2},
	} {
		available = step.available
		now = now.Add(step.after)
		m.look(t.Context(), now)
		if _, disk, _ := m.Pressure(); disk != step.pressure {
			t.Errorf("%s: pressure %v, want %v", step.name, disk, step.pressure)
		}
		if len(evicted) != step.evicted {
			t.Errorf("%s: %d pods were evicted, want %d", step.name, len(evicted), step.evicted)
		}
	}
	if diff := cmp.Diff([]v1.ResourceName{"ephemeral-storage", "ephemeral-storage"}, met); diff != "" || reclaimed != 2 {
		t.Errorf("%d times reclaimed without evicting, want 2; told of (-want +got):\n%s", reclaimed, diff)
	}
}

// A pod is spared where enough was freed, also if not all that could be was.
func TestReclaimInPart(t *testing.T) {
	for _, tc := range []struct {
		name    string
		after   int64 // available when something was reclaimed
		evicted int
	}{
		{"enough", 200 * mib, 0},
		{"too little", 90 * mib, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			available, evicted := int64(80*mib), 0
			m, err := New(Config{
				Hard: map[string]string{"nodefs.available": "100Mi"}, Transition: time.Minute,
				Observe: func(context.Context) map[Signal]Observation {
					return map[Signal]Observation{NodeFsAvailable: {Available: available, Capacity: 1000 * mib}}
				},
				Usage:   func(context.Context) map[types.UID]Usage { return nil },
				Pods:    func() []*v1.Pod { return []*v1.Pod{pod("p", 0)} },
				Reclaim: func(context.Context) error { available = tc.after; return errors.New("one image is in use") },
				Evict: func(*v1.Pod, string, int64) <-chan struct{} {
					evicted++
					done := make(chan struct{})
					close(done)
					return done
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			m.look(t.Context(), time.Now())
			if evicted != tc.evicted {
				t.Errorf("%d pods evicted, want %d", evicted, tc.evicted)
			}
		})
	}
}
