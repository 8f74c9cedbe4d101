package status

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
)

// A pod that is unready for a moment must be ready again at the server, also
// when the kubelet's own copy of the pod has seen neither change.
func TestChangeBackIsSent(t *testing.T) {
	old := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u", ResourceVersion: "5"},
		Status:     v1.PodStatus{Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}},
	}
	client := fake.NewClientset(old)
	m, err := NewManager(Config{Client: client, Pod: func(types.UID) *v1.Pod { return old }, Deletable: func(types.UID) bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	// The fake keeps no resource versions, so the answers are given one.
	version := byte('5')
	for _, ready := range []v1.ConditionStatus{v1.ConditionFalse, v1.ConditionTrue} {
		m.Set(old, v1.PodStatus{Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: ready}}}, false)
		if wait := m.send(context.Background(), "u"); wait != 0 {
			t.Fatalf("send failed; it is tried again after %s", wait)
		}
		version++
		m.pods["u"].server.ResourceVersion = string(version)
		got, err := client.CoreV1().Pods("n").Get(context.Background(), "p", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if c := condition(got.Status.Conditions, v1.PodReady); c == nil || c.Status != ready {
			t.Fatalf("the server has %+v, want Ready %s", c, ready)
		}
	}
}

// What others write over the kubelet's part of a status is put right, once.
func TestOverwrittenStatusIsSentAgain(t *testing.T) {
	at := func(version string, ready v1.ConditionStatus) *v1.Pod {
		return &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u", ResourceVersion: version},
			Status: v1.PodStatus{Conditions: []v1.PodCondition{
				{Type: v1.PodReady, Status: ready}, {Type: "example.com/gate", Status: v1.ConditionTrue},
			}},
		}
	}
	seen := at("5", v1.ConditionTrue)
	client := fake.NewClientset(seen)
	m, err := NewManager(Config{Client: client, Pod: func(types.UID) *v1.Pod { return seen }, Deletable: func(types.UID) bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	m.Set(seen, v1.PodStatus{Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}}, false)
	for _, step := range []struct {
		name    string
		pod     *v1.Pod
		patches int
	}{
		{"the server knows it", at("5", v1.ConditionTrue), 0},
		{"another made it unready", at("7", v1.ConditionFalse), 1},
		{"the kubelet's own change", at("9", v1.ConditionTrue), 1},
		{"a watch that is behind", at("7", v1.ConditionFalse), 1},
	} {
		seen = step.pod
		if err := client.Tracker().Update(v1.SchemeGroupVersion.WithResource("pods"), seen, "n"); err != nil {
			t.Fatal(err)
		}
		if wait := m.send(t.Context(), "u"); wait != 0 {
			t.Fatalf("%s: send failed; it is tried again after %s", step.name, wait)
		}
		patches := 0
		for _, a := range client.Actions() {
			if a.GetVerb() == "patch" {
				patches++
			}
		}
		if patches != step.patches {
			t.Errorf("%s: %d patches, want %d", step.name, patches, step.patches)
		}
		if step.patches == 1 && m.pods["u"].server.ResourceVersion == "7" {
			m.pods["u"].server.ResourceVersion = "9" // the fake keeps no versions
		}
	}
}

// A pod that ends while an earlier status is sent is deleted only after its last.
func TestLastStatusGoesBeforeTheDeletion(t *testing.T) {
	now := metav1.Now()
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n", UID: "u", DeletionTimestamp: &now, Finalizers: []string{"keep/it"}}}
	client := fake.NewClientset(pod)
	var m *Manager
	ended := false
	m, err := NewManager(Config{Client: client, Pod: func(types.UID) *v1.Pod { return pod }, Deletable: func(types.UID) bool {
		if !ended {
			ended = true
			m.Set(pod, v1.PodStatus{Phase: v1.PodSucceeded}, false)
		}
		return true
	}})
	if err != nil {
		t.Fatal(err)
	}
	m.Set(pod, v1.PodStatus{Phase: v1.PodRunning}, false)
	for range 2 {
		if wait := m.send(t.Context(), "u"); wait != 0 {
			t.Fatalf("send failed; it is tried again after %s", wait)
		}
	}
	var order []string
	for _, a := range client.Actions() {
		order = append(order, a.GetVerb())
	}
	if diff := cmp.Diff([]string{"patch", "patch", "delete"}, order); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}
