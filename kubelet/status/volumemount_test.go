package status

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
)

func TestVolumeMountsAreReportedAsMade(t *testing.T) {
	const ref = "docker.io/library/data@sha256:0123"
	for _, c := range []struct {
		name  string
		mount v1.VolumeMount
		made  []*runtimeapi.Mount
		want  v1.VolumeMountStatus
	}{
		{
			"writable", v1.VolumeMount{Name: "v", MountPath: "/v"}, []*runtimeapi.Mount{{ContainerPath: "/v"}},
			v1.VolumeMountStatus{Name: "v", MountPath: "/v"},
		},
		{
			"read-only", v1.VolumeMount{Name: "v", MountPath: "/v", ReadOnly: true}, []*runtimeapi.Mount{{ContainerPath: "/v", Readonly: true}},
			v1.VolumeMountStatus{Name: "v", MountPath: "/v", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyDisabled)},
		},
		{
			"recursive where possible, and it was", v1.VolumeMount{Name: "v", MountPath: "/v/", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyIfPossible)},
			[]*runtimeapi.Mount{{ContainerPath: "/v", Readonly: true, RecursiveReadOnly: true}},
			v1.VolumeMountStatus{Name: "v", MountPath: "/v/", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyEnabled)},
		},
		{
			"recursive where possible, and it was not", v1.VolumeMount{Name: "v", MountPath: "/v", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyIfPossible)},
			[]*runtimeapi.Mount{{ContainerPath: "/v", Readonly: true}},
			v1.VolumeMountStatus{Name: "v", MountPath: "/v", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyDisabled)},
		},
		{
			"an image", v1.VolumeMount{Name: "v", MountPath: "/v"}, []*runtimeapi.Mount{{ContainerPath: "/other"}, {ContainerPath: "/v", Image: &runtimeapi.ImageSpec{Image: ref}}},
			v1.VolumeMountStatus{Name: "v", MountPath: "/v", VolumeStatus: &v1.VolumeStatus{Image: &v1.ImageVolumeStatus{ImageRef: ref}}},
		},
		{"not made yet", v1.VolumeMount{Name: "v", MountPath: "/v"}, nil, v1.VolumeMountStatus{Name: "v", MountPath: "/v"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, volumeMount(c.mount, c.made)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
