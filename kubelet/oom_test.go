package kubelet

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/config"
	"skiff/kubelet/resources"
)

// A container out of memory ends as a whole where the machine can do that, unless the
// configuration says otherwise.
func TestOOMGroup(t *testing.T) {
	for _, tt := range []struct {
		name, conf string
		able       bool
		want       string // memory.oom.group
		err        string
	}{
		{name: "cgroup v2", able: true, want: "1"},
		{name: "cgroup v2 and single processes", conf: "singleProcessOOMKill: true", able: true},
		{name: "cgroup v2 and whole containers", conf: "singleProcessOOMKill: false", able: true, want: "1"},
		{name: "cgroup v1"},
		{name: "cgroup v1 and single processes", conf: "singleProcessOOMKill: true"},
		{name: "cgroup v1 and whole containers", conf: "singleProcessOOMKill: false", err: "singleProcessOOMKill"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Parse([]byte(tt.conf))
			if err != nil {
				t.Fatal(err)
			}
			group, err := oomGroup(c, tt.able)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
			if got := resources.Linux(pod, &pod.Spec.Containers[0], resources.Settings{OOMGroup: group}).Unified["memory.oom.group"]; got != tt.want {
				t.Errorf("memory.oom.group is %q, want %q", got, tt.want)
			}
		})
	}
}
