package projected

import (
	"context"
	"errors"
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

// A bundle is the key and then the certificates; a path that is not named makes no file.
func TestCertificates(t *testing.T) {
	mode, group := int32(0o440), int64(10)
	for name, tc := range map[string]struct {
		src   v1.PodCertificateProjection
		group *int64
		err   error
		want  map[string]atomic.File
	}{
		"a bundle":       {src: v1.PodCertificateProjection{CredentialBundlePath: "b"}, want: map[string]atomic.File{"b": {Data: []byte("keychain"), Mode: 0o440}}},
		"both apart":     {src: v1.PodCertificateProjection{KeyPath: "k", CertificateChainPath: "c"}, want: map[string]atomic.File{"k": {Data: []byte("key"), Mode: 0o440}, "c": {Data: []byte("chain"), Mode: 0o440}}},
		"a group":        {src: v1.PodCertificateProjection{KeyPath: "k"}, group: &group, want: map[string]atomic.File{"k": {Data: []byte("key"), Mode: 0o600}}},
		"not issued yet": {src: v1.PodCertificateProjection{KeyPath: "k"}, err: errors.New("not yet"), want: map[string]atomic.File{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &volume.Request{Pod: &v1.Pod{Spec: v1.PodSpec{SecurityContext: &v1.PodSecurityContext{FSGroup: tc.group}, Containers: []v1.Container{{Name: "c"}}}},
				Volume: &v1.Volume{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []v1.VolumeProjection{{}, {PodCertificate: &tc.src}}}}}}
			p := &Plugin{Certificates: func(_ context.Context, got *volume.Request, source int) ([]byte, []byte, error) {
				if got != r || source != 1 {
					t.Errorf("asked for source %d of %v", source, got)
				}
				return []byte("key"), []byte("chain"), tc.err
			}}
			got, err := p.collect(t.Context(), r)
			if !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
