package admission

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestAppArmor(t *testing.T) {
	profile := func(kind v1.AppArmorProfileType) *v1.AppArmorProfile { return &v1.AppArmorProfile{Type: kind} }
	pod := func(kind v1.AppArmorProfileType) *v1.Pod {
		return &v1.Pod{Spec: v1.PodSpec{SecurityContext: &v1.PodSecurityContext{AppArmorProfile: profile(kind)}}}
	}
	sc := &v1.SecurityContext{AppArmorProfile: profile(v1.AppArmorProfileTypeRuntimeDefault)}
	runs := pod(v1.AppArmorProfileTypeRuntimeDefault)
	runs.Status.Phase = v1.PodRunning
	for name, tc := range map[string]struct {
		pod     *v1.Pod
		enabled bool
		refused bool
	}{
		"asks for nothing":         {pod: &v1.Pod{}},
		"wants none":               {pod: pod(v1.AppArmorProfileTypeUnconfined)},
		"pod":                      {pod: pod(v1.AppArmorProfileTypeRuntimeDefault), refused: true},
		"pod with its own profile": {pod: pod(v1.AppArmorProfileTypeLocalhost), refused: true},
		"container":                {pod: &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{}, {SecurityContext: sc}}}}, refused: true},
		"init container":           {pod: &v1.Pod{Spec: v1.PodSpec{InitContainers: []v1.Container{{SecurityContext: sc}}}}, refused: true},
		"on a node that has it":    {pod: pod(v1.AppArmorProfileTypeRuntimeDefault), enabled: true},
		"runs since before":        {pod: runs},
	} {
		t.Run(name, func(t *testing.T) {
			r := appArmor(Input{Pod: tc.pod, AppArmor: tc.enabled})
			if (r != nil) != tc.refused {
				t.Errorf("refusal %v, want one: %t", r, tc.refused)
			}
		})
	}
}
