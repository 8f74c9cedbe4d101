package images

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// plugin writes a program that notes what it is asked, and its configuration.
func plugin(t *testing.T, provider, answer string) (ProvidersConfig, func() []string) {
	t.Helper()
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	script := fmt.Sprintf("#!/bin/sh\ncat >>%s\necho \" $1 $WHO\" >>%s\n%s\n", asked, asked, answer)
	if err := os.WriteFile(filepath.Join(dir, "plug"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := "kind: CredentialProviderConfig\napiVersion: kubelet.config.k8s.io/v1\nproviders:\n- name: plug\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n" +
		"  args: [arg]\n  env: [{name: WHO, value: me}]\n" + provider
	file := filepath.Join(dir, "conf.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return ProvidersConfig{File: file, BinDir: dir}, func() []string {
		raw, err := os.ReadFile(asked)
		if err != nil {
			return nil
		}
		return strings.Split(strings.TrimSpace(string(raw)), "\n")
	}
}

const says = `echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"%s","auth":{"*.example.com":{"username":"u","password":"p"}}}'`

func TestProviders(t *testing.T) {
	images := []string{"reg.example.com/a:1", "reg.example.com/a:1", "reg.example.com/b:1", "two.example.com/a:1", "other.net/a:1"}
	for name, tc := range map[string]struct {
		provider, answer string
		asks             int    // how often the program is started for the images above
		found            string // which of them get credentials
		log              string
	}{
		"kept by image":    {"  matchImages: ['*.example.com']\n  defaultCacheDuration: 1h\n", fmt.Sprintf(says, "Image"), 3, "++++-", ""},
		"kept by registry": {"  matchImages: ['*.example.com']\n  defaultCacheDuration: 1h\n", fmt.Sprintf(says, "Registry"), 2, "++++-", ""},
		"kept for all":     {"  matchImages: ['*.example.com']\n  defaultCacheDuration: 1h\n", fmt.Sprintf(says, "Global"), 1, "++++-", ""},
		"not kept":         {"  matchImages: ['*.example.com']\n  defaultCacheDuration: 0s\n", fmt.Sprintf(says, "Global"), 4, "++++-", ""},
		"by a path":        {"  matchImages: ['reg.example.com/b']\n  defaultCacheDuration: 0s\n", fmt.Sprintf(says, "Global"), 1, "--+--", ""},
		"that fails":       {"  matchImages: ['two.example.com']\n  defaultCacheDuration: 0s\n", "echo no such account >&2; exit 3", 1, "-----", "no such account"},
		"of another kind":  {"  matchImages: ['two.example.com']\n  defaultCacheDuration: 0s\n", "echo '{}'", 1, "-----", "want a CredentialProviderResponse"},
		"without an end":   {"  matchImages: ['two.example.com']\n  defaultCacheDuration: 0s\n", "yes", 1, "-----", "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, asked := plugin(t, tc.provider, tc.answer)
			var log bytes.Buffer
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			p, err := NewProviders(cfg)
			if err != nil {
				t.Fatal(err)
			}
			found := ""
			for _, image := range images {
				switch creds := p.Lookup(t.Context(), nil, image); {
				case len(creds) == 0:
					found += "-"
				case creds[0].Auth.Username == "u" && creds[0].Auth.Password == "p":
					found += "+"
				default:
					found += "?"
				}
			}
			if found != tc.found || len(asked()) != tc.asks {
				t.Errorf("credentials %s after %d questions, want %s after %d", found, len(asked()), tc.found, tc.asks)
			}
			if !strings.Contains(log.String(), tc.log) || strings.Contains(log.String(), "password") {
				t.Errorf("logged %q, want %q", log.String(), tc.log)
			}
		})
	}
}

func TestProvidersExpire(t *testing.T) {
	cfg, asked := plugin(t, "  matchImages: ['*.example.com']\n  defaultCacheDuration: 1h\n", fmt.Sprintf(says, "Global"))
	now := time.Unix(1e9, 0)
	cfg.Now = func() time.Time { return now }
	p, err := NewProviders(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{0, 59 * time.Minute, 2 * time.Minute} {
		now = now.Add(after)
		p.Lookup(t.Context(), nil, "reg.example.com/a")
	}
	if got := len(asked()); got != 2 {
		t.Errorf("asked %d times, want again after the hour", got)
	}
}

func TestProvidersOfServiceAccounts(t *testing.T) {
	cfg, asked := plugin(t, "  matchImages: ['*.example.com']\n  defaultCacheDuration: 1h\n  tokenAttributes:\n    serviceAccountTokenAudience: reg\n    cacheType: ServiceAccount\n"+
		"    requireServiceAccount: true\n    requiredServiceAccountAnnotationKeys: [example.com/role]\n", fmt.Sprintf(says, "Global"))
	cfg.Token = func(_ context.Context, pod *v1.Pod, audience string) (string, error) {
		return audience + "-" + pod.Name, nil
	}
	cfg.ServiceAccount = func(_ context.Context, namespace, name string) (*v1.ServiceAccount, error) {
		sa := &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if name != "plain" {
			sa.Annotations = map[string]string{"example.com/role": name, "else": "x"}
		}
		return sa, nil
	}
	p, err := NewProviders(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, account := range []string{"a", "a", "b", "plain", ""} {
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod"}, Spec: v1.PodSpec{ServiceAccountName: account}}
		got = append(got, len(p.Lookup(t.Context(), pod, "reg.example.com/a")))
	}
	if d := cmp.Diff([]int{1, 1, 1, 0, 0}, got); d != "" {
		t.Errorf("credentials of each pod (-want +got):\n%s", d)
	}
	want := []string{
		`{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"reg.example.com/a","serviceAccountToken":"reg-pod","serviceAccountAnnotations":{"example.com/role":"a"}} arg me`,
		`{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"reg.example.com/a","serviceAccountToken":"reg-pod","serviceAccountAnnotations":{"example.com/role":"b"}} arg me`,
	}
	if d := cmp.Diff(want, asked()); d != "" {
		t.Errorf("questions (-want +got):\n%s", d)
	}
}

func TestProvidersRefused(t *testing.T) {
	for name, tc := range map[string]struct{ provider, want string }{
		"no images":             {"  defaultCacheDuration: 1h\n", "providers[0].matchImages"},
		"no duration":           {"  matchImages: [a]\n", "providers[0].defaultCacheDuration"},
		"an unknown field":      {"  matchImages: [a]\n  defaultCacheDuration: 1h\n  nme: x\n", "nme"},
		"a program outside":     {"  matchImages: [a]\n  defaultCacheDuration: 1h\n- name: ../plug\n  matchImages: [a]\n  defaultCacheDuration: 1h\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n", "providers[1].name"},
		"a program twice":       {"  matchImages: [a]\n  defaultCacheDuration: 1h\n- name: plug\n  matchImages: [a]\n  defaultCacheDuration: 1h\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n", "stands twice"},
		"a program that is not": {"  matchImages: [a]\n  defaultCacheDuration: 1h\n- name: plog\n  matchImages: [a]\n  defaultCacheDuration: 1h\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n", "put the program there"},
		"no audience":           {"  matchImages: [a]\n  defaultCacheDuration: 1h\n  tokenAttributes: {cacheType: Token, requireServiceAccount: true}\n", "serviceAccountTokenAudience"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, _ := plugin(t, tc.provider, "")
			if _, err := NewProviders(cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}
