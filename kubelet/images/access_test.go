package images

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

func access(t *testing.T, dir string, policy kubeletv1beta1.ImagePullCredentialsVerificationPolicy, allowlist ...string) *Access {
	t.Helper()
	a, err := NewAccess(AccessConfig{Dir: dir, Policy: policy, Allowlist: allowlist, Now: func() time.Time { return time.Unix(1, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func ofSecret(uid, content string) *Credential {
	return &Credential{Secret: &kubeletv1beta1.ImagePullSecret{UID: uid, Namespace: "ns", Name: "s", CredentialHash: content}}
}

func ofAccount(uid string) *Credential {
	return &Credential{ServiceAccount: &kubeletv1beta1.ImagePullServiceAccount{UID: uid, Namespace: "ns", Name: "app"}}
}

// Who may use an image that is on the node, by how it came there. Each answer is the
// same after the kubelet was restarted.
//
// Covers: node.images
func TestAccess(t *testing.T) {
	const image, ref = "registry.example/team/app:1", "sha256:1"
	type pull struct {
		image string
		with  *Credential
	}
	type use struct {
		image string
		has   *Credential
		want  bool
	}
	for _, tt := range []struct {
		name      string
		policy    kubeletv1beta1.ImagePullCredentialsVerificationPolicy
		allowlist []string
		pulls     []pull
		// interrupted pulls began and never ended.
		interrupted string
		uses        []use
	}{
		{name: "brought by somebody else", uses: []use{{image, nil, true}}},
		{name: "brought by somebody else and always verified", policy: kubeletv1beta1.AlwaysVerify, uses: []use{{image, nil, false}, {image, ofSecret("1", "a"), false}}},
		{name: "pulled without credentials", pulls: []pull{{image, nil}}, uses: []use{{image, nil, true}, {image, ofSecret("1", "a"), true}}},
		{name: "pulled with the node's credentials", pulls: []pull{{image, &Credential{}}}, uses: []use{{image, nil, true}}},
		{name: "pulled with a secret", pulls: []pull{{image, ofSecret("1", "a")}}, uses: []use{
			{image, nil, false},
			{image, ofSecret("2", "b"), false},
			{image, ofSecret("1", "a"), true},
			{"registry.example/team/app:2", ofSecret("1", "a"), true},
		}},
		{name: "the same secret elsewhere", pulls: []pull{{image, ofSecret("1", "a")}}, uses: []use{{image, ofSecret("2", "a"), true}}},
		{name: "a secret that was changed, and what it had before", pulls: []pull{{image, ofSecret("1", "a")}}, uses: []use{{image, ofSecret("1", "b"), true}, {image, ofSecret("2", "b"), true}, {image, ofSecret("3", "a"), false}}},
		{name: "another name of the image", pulls: []pull{{image, ofSecret("1", "a")}}, uses: []use{{"registry.example/other:1", ofSecret("1", "a"), false}}},
		{name: "with two secrets", pulls: []pull{{image, ofSecret("1", "a")}, {image, ofSecret("2", "b")}}, uses: []use{{image, ofSecret("1", "a"), true}, {image, ofSecret("2", "b"), true}}},
		{name: "with a secret and then without", pulls: []pull{{image, ofSecret("1", "a")}, {image, nil}}, uses: []use{{image, nil, true}}},
		{name: "with a service account", pulls: []pull{{image, ofAccount("1")}}, uses: []use{{image, ofAccount("1"), true}, {image, ofAccount("2"), false}, {image, nil, false}}},
		{name: "a secret where nobody asks", policy: kubeletv1beta1.NeverVerify, pulls: []pull{{image, ofSecret("1", "a")}}, uses: []use{{image, nil, true}}},
		{name: "a pull that was interrupted", interrupted: image, uses: []use{{image, nil, false}}},
		{name: "on the allowlist", policy: kubeletv1beta1.NeverVerifyAllowlistedImages, allowlist: []string{"registry.example/team/*", "nginx"},
			uses: []use{{image, nil, true}, {"docker.io/library/nginx:1", nil, true}, {"registry.example/teams/app:1", nil, false}}},
		{name: "on the allowlist and pulled with a secret", policy: kubeletv1beta1.NeverVerifyAllowlistedImages, allowlist: []string{"registry.example/team/*"},
			pulls: []pull{{image, ofSecret("1", "a")}}, uses: []use{{image, nil, false}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			a := access(t, dir, tt.policy, tt.allowlist...)
			for _, p := range tt.pulls {
				if err := a.Begin(p.image); err != nil {
					t.Fatal(err)
				}
				if err := a.Pulled(p.image, ref, p.with); err != nil {
					t.Fatal(err)
				}
			}
			if tt.interrupted != "" {
				if err := a.Begin(tt.interrupted); err != nil {
					t.Fatal(err)
				}
			}
			for i, u := range tt.uses {
				a = access(t, dir, tt.policy, tt.allowlist...)
				got, err := a.Allowed(u.image, ref, func() []Credential {
					if u.has == nil {
						return nil
					}
					return []Credential{*u.has}
				})
				if err != nil || got != u.want {
					t.Errorf("use %d of %s: %v, %v, want %v", i, u.image, got, err, u.want)
				}
			}
		})
	}
}

// Two pods that pull the same at once leave no note of a pull, and a failed one none of
// an image.
func TestAccessLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	a := access(t, dir, "")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	left := func(kind string) int {
		t.Helper()
		list, err := os.ReadDir(filepath.Join(dir, kind))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return len(list)
	}
	must(a.Begin("app:1"))
	must(a.Begin("app:1"))
	must(a.Failed("app:1"))
	if n := left("pulling"); n != 1 {
		t.Errorf("%d pulls are noted while one goes on", n)
	}
	must(a.Pulled("app:1", "sha256:1", ofSecret("1", "a")))
	if n, m := left("pulling"), left("pulled"); n != 0 || m != 1 {
		t.Errorf("%d pulls and %d images are noted after the only one", n, m)
	}
	must(a.Forget(func(ref string) bool { return ref == "sha256:1" }))
	if n := left("pulled"); n != 1 {
		t.Errorf("%d images are noted of one that is there", n)
	}
	must(a.Forget(func(string) bool { return false }))
	if n := left("pulled"); n != 0 {
		t.Errorf("%d images are noted that are gone", n)
	}
}

// What was written by half, or by another, opens no image.
func TestAccessUnreadable(t *testing.T) {
	dir := t.TempDir()
	a := access(t, dir, kubeletv1beta1.AlwaysVerify)
	if err := a.Begin("app:1"); err != nil {
		t.Fatal(err)
	}
	if err := a.Pulled("app:1", "sha256:1", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file("pulled", "sha256:1"), []byte(`{"imageRef":"sha256:1","credentialMapping":{"docker.io/lib`), 0o600); err != nil {
		t.Fatal(err)
	}
	if ok, err := access(t, dir, kubeletv1beta1.AlwaysVerify).Allowed("app:1", "sha256:1", func() []Credential { return nil }); ok || err != nil {
		t.Errorf("allowed by half a record: %v, %v", ok, err)
	}
}
