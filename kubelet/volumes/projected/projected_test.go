package projected

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"

	"skiff/kubelet/volumes/atomic"
	"skiff/kubelet/volumes/volume"
)

// The writer adds the group and its right to read (0440).
func TestOwned(t *testing.T) {
	user, other, group, mode := int64(1000), int64(1001), int64(10000), int32(0o440)
	tests := map[string]struct {
		pod       v1.PodSecurityContext
		container *v1.SecurityContext
		mode      *int32
		want      atomic.File
	}{
		"nothing said":         {want: atomic.File{Mode: 0o644}},
		"a mode":               {mode: &mode, want: atomic.File{Mode: 0o440}},
		"a user":               {pod: v1.PodSecurityContext{RunAsUser: &user}, mode: &mode, want: atomic.File{Mode: 0o600, Owner: &user}},
		"a group":              {pod: v1.PodSecurityContext{FSGroup: &group}, mode: &mode, want: atomic.File{Mode: 0o600}},
		"a user and a group":   {pod: v1.PodSecurityContext{RunAsUser: &user, FSGroup: &group}, want: atomic.File{Mode: 0o600, Owner: &user}},
		"the container's user": {pod: v1.PodSecurityContext{RunAsUser: &user}, container: &v1.SecurityContext{RunAsUser: &other}, want: atomic.File{Mode: 0o644}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{Spec: v1.PodSpec{SecurityContext: &tc.pod, Containers: []v1.Container{{Name: "a"}}}}
			if tc.container != nil {
				pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: "b", SecurityContext: tc.container})
			}
			if diff := cmp.Diff(tc.want, owned(&volume.Request{Pod: pod}, nil, tc.mode)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
