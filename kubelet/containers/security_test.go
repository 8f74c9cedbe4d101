package containers

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
)

// A container that must not run as root is held to that at each start, by what
// its image says then (CVE-2019-11245); a name tells nothing (CVE-2021-25749).
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

// A profile that says nothing, or nothing known, starts no container: it must not
// mean that there is no filter (CVE-2023-2431).
func TestSeccompIsNeverLeftOut(t *testing.T) {
	m := &Manager{cfg: Config{SeccompDir: "/profiles"}}
	for name, tt := range map[string]struct {
		profile v1.SeccompProfile
		want    *runtimeapi.SecurityProfile // nil when it is refused
	}{
		"default":                    {v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}, &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}},
		"none asked for":             {v1.SeccompProfile{Type: v1.SeccompProfileTypeUnconfined}, &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}},
		"file":                       {v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr.To("a.json")}, &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "/profiles/a.json"}},
		"file elsewhere":             {v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr.To("../../etc/a.json")}, &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "/profiles/etc/a.json"}},
		"file without a name":        {v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost}, nil},
		"file with an empty name":    {v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr.To("")}, nil},
		"type that is not known yet": {v1.SeccompProfile{Type: "Other"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, at := range []struct {
				psc v1.PodSecurityContext
				sc  v1.SecurityContext
			}{{psc: v1.PodSecurityContext{SeccompProfile: &tt.profile}}, {sc: v1.SecurityContext{SeccompProfile: &tt.profile}}} {
				got, err := m.effectiveSeccomp(&at.psc, &at.sc)
				if (err != nil) != (tt.want == nil) || err == nil && !proto.Equal(got, tt.want) {
					t.Errorf("got %v, %v, want %v", got, err, tt.want)
				}
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

// Runtimes allow a privileged container in the pods alone that are said to have one.
func TestPrivilegedPods(t *testing.T) {
	yes := &v1.SecurityContext{Privileged: ptr.To(true)}
	for name, tc := range map[string]struct {
		spec v1.PodSpec
		want bool
	}{
		"none":      {v1.PodSpec{Containers: []v1.Container{{SecurityContext: &v1.SecurityContext{}}}}, false},
		"container": {v1.PodSpec{Containers: []v1.Container{{}, {SecurityContext: yes}}}, true},
		"init":      {v1.PodSpec{InitContainers: []v1.Container{{SecurityContext: yes}}}, true},
		"ephemeral": {v1.PodSpec{EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{SecurityContext: yes}}}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hasPrivileged(&v1.Pod{Spec: tc.spec}); got != tc.want {
				t.Errorf("privileged: %t, want %t", got, tc.want)
			}
		})
	}
}
