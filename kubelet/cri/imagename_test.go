package cri

import (
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/cri/images"
)

func TestTagged(t *testing.T) {
	const id = "sha256:0000000000000000000000000000000000000000000000000000000000000001"
	two := []string{"docker.io/library/a:latest", "quay.io/x/b:1"}
	tests := map[string]struct {
		tags []string
		spec *runtimeapi.ImageSpec
		want string
	}{
		"short":           {two, &runtimeapi.ImageSpec{Image: id, UserSpecifiedImage: "a"}, "docker.io/library/a:latest"},
		"the second":      {two, &runtimeapi.ImageSpec{Image: id, UserSpecifiedImage: "quay.io/x/b:1"}, "quay.io/x/b:1"},
		"by name alone":   {two, &runtimeapi.ImageSpec{Image: "quay.io/x/b:1"}, "quay.io/x/b:1"},
		"by another name": {two, &runtimeapi.ImageSpec{Image: id, UserSpecifiedImage: "c"}, "docker.io/library/a:latest"},
		"no tag":          {nil, &runtimeapi.ImageSpec{Image: id, UserSpecifiedImage: "a"}, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tagged(&images.Image{Tags: tc.tags}, tc.spec); got != tc.want {
				t.Errorf("tagged: %q, want %q", got, tc.want)
			}
		})
	}
}
