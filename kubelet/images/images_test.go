package images

import (
	"encoding/base64"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestNormalize(t *testing.T) {
	cases := map[string]struct {
		image, want string
		policy      v1.PullPolicy
		wantPolicy  v1.PullPolicy
		wantErr     bool
	}{
		"no tag":        {image: "nginx", want: "nginx:latest", wantPolicy: v1.PullAlways},
		"tag":           {image: "nginx:1.27", want: "nginx:1.27", wantPolicy: v1.PullIfNotPresent},
		"port":          {image: "localhost:5000/a", want: "localhost:5000/a:latest", wantPolicy: v1.PullAlways},
		"digest":        {image: "a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", want: "a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", wantPolicy: v1.PullIfNotPresent},
		"own policy":    {image: "nginx", policy: v1.PullNever, want: "nginx:latest", wantPolicy: v1.PullNever},
		"upper case":    {image: "NGINX", wantErr: true},
		"double colons": {image: "a:b:c", wantErr: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, policy, err := Normalize(tc.image, tc.policy)
			if (err != nil) != tc.wantErr || got != tc.want || policy != tc.wantPolicy {
				t.Errorf("got %q %q %v, want %q %q", got, policy, err, tc.want, tc.wantPolicy)
			}
		})
	}
}

func TestKeyring(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	secret := v1.Secret{Type: v1.SecretTypeDockerConfigJson, Data: map[string][]byte{v1.DockerConfigJsonKey: []byte(`{"auths":{"*.example.com/team":{"auth":"` + auth + `"},"https://index.docker.io/v1/":{"username":"u","password":"p"}}}`)}}
	cases := map[string]struct{ image, user string }{
		"glob and path": {"r.example.com/team/app:1", "me"},
		"other path":    {"r.example.com/other/app:1", ""},
		"docker hub":    {"nginx:1", "u"},
		"other host":    {"ghcr.io/a/b:1", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := (&Keyring{}).Lookup(t.Context(), nil, tc.image, []v1.Secret{secret})
			user := ""
			if len(got) > 0 {
				user = got[0].Auth.Username
			}
			if user != tc.user {
				t.Errorf("user %q, want %q", user, tc.user)
			}
		})
	}
}
