package images

import (
	"context"
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// private is a runtime that pulls one image, for who has the password, and names it
// otherwise when it pulls than when it is asked.
type private struct {
	internalapi.ImageManagerService
	present bool
	asked   int
}

func (p *private) ImageStatus(context.Context, *runtimeapi.ImageSpec, bool) (*runtimeapi.ImageStatusResponse, error) {
	if !p.present {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: "sha256:1", Size: 1}}, nil
}

func (p *private) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	p.asked++
	if auth.GetPassword() != "right" {
		return "", errors.New("pull access denied")
	}
	p.present = true
	return spec.Image + "@sha256:2", nil
}

// A pod whose credentials did not pull the image asks the registry, though another has
// brought it, and is told nothing else than if it were not there.
//
// Covers: node.images
func TestEnsureOfAPrivateImage(t *testing.T) {
	secret := func(name, password string) v1.Secret {
		return v1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}, Type: v1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{v1.DockerConfigJsonKey: []byte(`{"auths":{"registry.example":{"username":"u","password":"` + password + `"}}}`)},
		}
	}
	right, wrong := []v1.Secret{secret("right", "right")}, []v1.Secret{secret("wrong", "wrong")}
	runtime := &private{}
	p, err := New(Config{Images: runtime, Recorder: &record.FakeRecorder{}, Access: access(t, t.TempDir(), "")})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		policy  v1.PullPolicy
		secrets []v1.Secret
		err     error
		asked   int // the registry, by all until then
	}{
		{"first", v1.PullIfNotPresent, right, nil, 1},
		{"the same secret", v1.PullIfNotPresent, right, nil, 1},
		{"the same secret and Never", v1.PullNever, right, nil, 1},
		{"no secret", v1.PullIfNotPresent, nil, ErrImagePull, 2},
		{"another secret", v1.PullIfNotPresent, wrong, ErrImagePull, 3},
		{"no secret and Never", v1.PullNever, nil, ErrImageNeverPull, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: types.UID(tt.name)}}
			_, message, err := p.Ensure(t.Context(), Request{Pod: pod, Image: "registry.example/app:1", Policy: tt.policy, Secrets: tt.secrets})
			if !errors.Is(err, tt.err) || runtime.asked != tt.asked {
				t.Errorf("%v (%s) after %d questions, want %v after %d", err, message, runtime.asked, tt.err, tt.asked)
			}
		})
	}
}
