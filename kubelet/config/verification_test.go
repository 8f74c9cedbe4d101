package config

import (
	"strings"
	"testing"
)

func TestVerification(t *testing.T) {
	const allowlist = "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: "
	for _, tc := range []struct{ name, in, want string }{
		{"the default", "", ""},
		{"always", "imagePullCredentialsVerificationPolicy: AlwaysVerify", ""},
		{"no such policy", "imagePullCredentialsVerificationPolicy: Sometimes", `option "Sometimes" specified for imagePullCredentialsVerificationPolicy`},
		{"an allowlist", allowlist + "[registry.example/team/*, registry.example/app, 'registry.example/*']", ""},
		{"an allowlist that does not count", "preloadedImagesVerificationAllowlist: [registry.example/app]", "can't set preloadedImagesVerificationAllowlist"},
		{"a tag", allowlist + "['registry.example/app:1']", `preloadedImagesVerificationAllowlist "registry.example/app:1"`},
		{"part of a segment", allowlist + "['registry.example/te*']", "a wildcard can only be the whole last segment"},
		{"everything", allowlist + "['*']", "a wildcard can only be the whole last segment"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.in))
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}
