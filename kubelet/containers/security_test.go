package containers

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
)

func TestVerifyNonRoot(t *testing.T) {
	number := func(n int64) *runtimeapi.Image { return &runtimeapi.Image{Uid: &runtimeapi.Int64Value{Value: n}} }
	const asRoot, unknown = "container has runAsNonRoot and image will run as root", "cannot verify user is non-root"
	tests := map[string]struct {
		user    *int64
		nonRoot *bool
		image   *runtimeapi.Image
		want    string
	}{
		"not asked for":             {image: number(0)},
		"asked for not":             {image: number(0), nonRoot: ptr.To(false)},
		"user of the pod":           {user: ptr.To[int64](1), nonRoot: ptr.To(true), image: number(0)},
		"root of the pod":           {user: ptr.To[int64](0), nonRoot: ptr.To(true), image: number(1), want: "container's runAsUser breaks non-root policy"},
		"user of the image":         {nonRoot: ptr.To(true), image: number(1)},
		"root of the image":         {nonRoot: ptr.To(true), image: number(0), want: asRoot},
		"image that names no user":  {nonRoot: ptr.To(true), image: &runtimeapi.Image{}, want: asRoot},
		"image that names its user": {nonRoot: ptr.To(true), image: &runtimeapi.Image{Username: "nginx"}, want: unknown},
		"image that names root":     {nonRoot: ptr.To(true), image: &runtimeapi.Image{Username: "root"}, want: unknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := verifyNonRoot(&v1.Pod{}, &v1.Container{Name: "main"}, tt.user, tt.nonRoot, tt.image)
			if got := errText(err); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("the error is %q, want %q", got, tt.want)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
