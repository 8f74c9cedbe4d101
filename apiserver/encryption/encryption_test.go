package encryption_test

import (
	"context"
	"strings"
	"testing"

	"skiff/apiserver/encryption"
	"skiff/apiserver/store"
)

const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"

// key32 and other32 are base64 of 32 bytes, key16 of 16.
const (
	key32   = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	other32 = "MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	key16   = "MDEyMzQ1Njc4OTAxMjM0NQ=="
)

func secrets(t *testing.T, providers string) store.Transformer {
	t.Helper()
	e, err := encryption.Parse([]byte(head + "- {resources: [secrets], providers: [" + providers + "]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return e.For("", "secrets")
}

// Covers: api.encryption
func TestProviders(t *testing.T) {
	ctx := context.Background()
	for name, tc := range map[string]struct{ provider, prefix string }{
		"aescbc":       {"aescbc: {keys: [{name: k, secret: " + key32 + "}]}", "k8s:enc:aescbc:v1:k:"},
		"aescbc short": {"aescbc: {keys: [{name: k, secret: " + key16 + "}]}", "k8s:enc:aescbc:v1:k:"},
		"aesgcm":       {"aesgcm: {keys: [{name: k, secret: " + key16 + "}]}", "k8s:enc:aesgcm:v1:k:"},
		"secretbox":    {"secretbox: {keys: [{name: k, secret: " + key32 + "}]}", "k8s:enc:secretbox:v1:k:"},
		"identity":     {"identity: {}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			tr := secrets(t, "{"+tc.provider+"}")
			for _, plain := range []string{"", "k8s\x00 sixteen bytes", strings.Repeat("x", 1000)} {
				stored, err := tr.ToStorage(ctx, "/registry/secrets/a/b", []byte(plain))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(string(stored), tc.prefix) || tc.prefix != "" && plain != "" && strings.Contains(string(stored), plain) {
					t.Errorf("stored %q", stored)
				}
				got, stale, err := tr.FromStorage(ctx, "/registry/secrets/a/b", stored)
				if err != nil || stale || string(got) != plain {
					t.Errorf("got %q, %v, %v", got, stale, err)
				}
				if tc.prefix == "" {
					continue
				}
				stored[len(stored)-1] ^= 1
				if got, _, err := tr.FromStorage(ctx, "/registry/secrets/a/b", stored); err == nil && string(got) == plain {
					t.Error("a changed value is read as if it were not")
				}
			}
		})
	}
	t.Run("a value of another key", func(t *testing.T) {
		tr := secrets(t, "{aesgcm: {keys: [{name: k, secret: "+key16+"}]}}")
		stored, err := tr.ToStorage(ctx, "/registry/secrets/a/b", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := tr.FromStorage(ctx, "/registry/secrets/a/other", stored); err == nil {
			t.Error("a value that was moved is read")
		}
	})
	t.Run("rotation", func(t *testing.T) {
		old := secrets(t, "{aescbc: {keys: [{name: one, secret: "+key32+"}]}}")
		stored, err := old.ToStorage(ctx, "k", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		next := secrets(t, "{secretbox: {keys: [{name: two, secret: "+other32+"}]}}, {aescbc: {keys: [{name: one, secret: "+key32+"}]}}, {identity: {}}")
		for what, value := range map[string]string{"the old key": string(stored), "no key": "x"} {
			got, stale, err := next.FromStorage(ctx, "k", []byte(value))
			if err != nil || !stale || string(got) != "x" {
				t.Errorf("%s: %q %v %v", what, got, stale, err)
			}
		}
		if _, _, err := secrets(t, "{identity: {}}").FromStorage(ctx, "k", stored); err == nil {
			t.Error("an encrypted value is taken as it is")
		}
		if _, _, err := old.FromStorage(ctx, "k", []byte("plain")); err == nil {
			t.Error("a plain value is read without identity")
		}
	})
}

func TestWhichResources(t *testing.T) {
	e, err := encryption.Parse([]byte(head + "- {resources: [events], providers: [{identity: {}}]}\n" +
		"- {resources: ['*.apps', pandas.awesome.example], providers: [{secretbox: {keys: [{name: a, secret: " + key32 + "}]}}]}\n" +
		"- {resources: ['*.'], providers: [{secretbox: {keys: [{name: c, secret: " + key32 + "}]}}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for gr, want := range map[[2]string]string{
		{"", "secrets"}: "c", {"", "events"}: "plain", {"apps", "deployments"}: "a", {"awesome.example", "pandas"}: "a",
		{"awesome.example", "bears"}: "plain", {"batch", "jobs"}: "plain",
	} {
		b, err := e.For(gr[0], gr[1]).ToStorage(context.Background(), "k", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		got := "plain"
		if p := strings.Split(string(b), ":"); len(p) > 4 {
			got = p[4]
		}
		if got != want {
			t.Errorf("%v: got %q, want %q", gr, got, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ doc, want string }{
		"another kind":    {"apiVersion: v1\nkind: Secret\n", "want apiserver.config.k8s.io/v1 EncryptionConfiguration"},
		"unknown field":   {head + "- {resource: [secrets]}\n", "resource"},
		"no resources":    {head + "- {providers: [{identity: {}}]}\n", "resources[0].resources: Required value"},
		"no providers":    {head + "- {resources: [secrets]}\n", "resources[0].providers: Required value"},
		"short key":       {head + "- {resources: [secrets], providers: [{secretbox: {keys: [{name: k, secret: " + key16 + "}]}}]}\n", "secret is not of the expected length, got 16, expected one of [32]"},
		"no base64":       {head + "- {resources: [secrets], providers: [{secretbox: {keys: [{name: k, secret: '!'}]}}]}\n", "secrets must be base64 encoded"},
		"two in one":      {head + "- {resources: [secrets], providers: [{identity: {}, secretbox: {keys: [{name: k, secret: " + key32 + "}]}}]}\n", "more than one provider specified in a single element"},
		"none in one":     {head + "- {resources: [secrets], providers: [{}]}\n", "resources[0].providers[0]: Required value: at least one provider is required"},
		"no secret":       {head + "- {resources: [secrets], providers: [{aesgcm: {keys: [{name: k}]}}]}\n", "secret is a mandatory field for a key"},
		"no name":         {head + "- {resources: [secrets], providers: [{aesgcm: {keys: [{secret: " + key32 + "}]}}]}\n", "name is a mandatory field for a key"},
		"kms":             {head + "- {resources: [secrets], providers: [{kms: {name: x, endpoint: 'unix:///x'}}]}\n", "Unsupported value"},
		"twice":           {head + "- {resources: [secrets, secrets], providers: [{identity: {}}]}\n", "the same resource cannot be specified multiple times"},
		"all and one":     {head + "- {resources: ['*.*', secrets], providers: [{identity: {}}]}\n", "using overlapping resources"},
		"a group and one": {head + "- {resources: [deployments.apps, '*.apps'], providers: [{identity: {}}]}\n", "using overlapping resources"},
		"bare wildcard":   {head + "- {resources: ['*'], providers: [{identity: {}}]}\n", "use '*.'"},
		"name with colon": {head + "- {resources: [secrets], providers: [{secretbox: {keys: [{name: 'a:b', secret: " + key32 + "}]}}]}\n", "colon"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := encryption.Parse([]byte(tc.doc))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if err != nil && (strings.Contains(err.Error(), key32) || strings.Contains(err.Error(), key16)) {
				t.Errorf("the error tells a key: %v", err)
			}
		})
	}
}
