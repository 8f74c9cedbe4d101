// Package skiff holds the house rules as tests.
package skiff

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// forbidden imports, by prefix, with the reason. except are the folders that may.
var forbidden = []struct {
	path, reason string
	except       []string
}{
	{"k8s.io/kubernetes", "skiff is written from scratch", nil},
	{"github.com/k3s-io", "skiff is written from scratch", nil},
	{"github.com/k0sproject", "skiff is written from scratch", nil},
	{"github.com/rancher", "skiff is written from scratch", nil},
	{"k8s.io/apiserver/pkg/server", "it is the server that skiff writes", nil},
	{"k8s.io/apiserver/pkg/registry", "it is the server that skiff writes", nil},
	{"k8s.io/apiserver/pkg/endpoints", "it is the server that skiff writes", nil},
	{"k8s.io/apiserver/pkg/storage", "it is the server that skiff writes", nil},
	{"k8s.io/cloud-provider/app", "it drags the whole server in", nil},
	{"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder", "it drags the whole server in", nil},
	{"modernc.org/sqlite", "only the store speaks SQL", []string{"kine/"}},
	{"github.com/lib/pq", "only the store speaks SQL", []string{"kine/"}},
	{"github.com/opencontainers/runc/libcontainer", "only the shim runs containers, and only it uses cgo", []string{"kubelet/cri/shim/"}},
	{"github.com/coreos/go-iptables", "only the proxy and the pod network touch netfilter", []string{"proxy/", "kubelet/network/"}},
	{"github.com/google/nftables", "only the proxy and the pod network touch netfilter", []string{"proxy/", "kubelet/network/"}},
	{"sigs.k8s.io/knftables", "only the proxy and the pod network touch netfilter", []string{"proxy/", "kubelet/network/"}},
	{"github.com/moby/ipvs", "only the proxy leads Services", []string{"proxy/"}},
	{"golang.zx2c4.com/wireguard", "only the pod network encrypts", []string{"kubelet/network/"}},
}

// parts know each other through the API alone: what each may import of skiff.
var parts = map[string][]string{
	"scheduler": {"scheduler"},
	// client/ownerwatch is a part of our API that Kubernetes has not; client/serviceslices
	// is how all find a Service's endpoints in what they watch.
	"controllers": {"controllers", "quota", "client/ownerwatch", "client/serviceslices"},
	"kubelet":     {"kubelet", "cluster/tracing", "cluster/introspection", "cluster/featuregates"},
	"proxy":       {"proxy", "client/serviceslices", "cluster/introspection"},
	"dns":         {"dns"},
	"cloud":       {"cloud"},
	"kine":        {"kine"},
	"quota":       {"quota"},
	"apiserver":   {"apiserver", "kine", "client", "quota", "cluster/pki", "cluster/version", "cluster/tracing", "cluster/introspection"},
	"client":      {"client", "apiserver/request"},
	"cluster":     {"cluster"},
}

// Covers: boundaries
func TestImportBoundaries(t *testing.T) {
	eachFile(t, func(path string, imports []string) {
		for _, imp := range imports {
			for _, f := range forbidden {
				if imp != f.path && !strings.HasPrefix(imp, f.path+"/") {
					continue
				}
				if !hasPrefix(path, f.except) {
					t.Errorf("%s imports %s: %s", path, imp, f.reason)
				}
			}
			own, ok := strings.CutPrefix(imp, "skiff/")
			if !ok || strings.HasSuffix(path, "_test.go") {
				continue
			}
			part, _, _ := strings.Cut(path, "/")
			allowed, ruled := parts[part]
			if ruled && !within(own, allowed) {
				t.Errorf("%s imports skiff/%s: %s knows the other parts through the API alone", path, own, part)
			}
		}
	})
}

func hasPrefix(path string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

func within(own string, allowed []string) bool {
	for _, a := range allowed {
		if own == a || strings.HasPrefix(own, a+"/") {
			return true
		}
	}
	return false
}

func eachFile(t *testing.T, visit func(path string, imports []string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		var imports []string
		for _, i := range f.Imports {
			imports = append(imports, strings.Trim(i.Path.Value, `"`))
		}
		visit(path, imports)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPackageNames keeps drawers without a name out.
func TestPackageNames(t *testing.T) {
	eachFile(t, func(path string, _ []string) {
		for _, part := range strings.Split(filepath.Dir(path), "/") {
			switch part {
			case "util", "utils", "helper", "helpers", "common", "misc":
				t.Errorf("%s: a package named %s is named for nothing", path, part)
			}
		}
	})
}
