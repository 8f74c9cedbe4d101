package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// FuzzLayer: whatever a layer holds, it is unpacked below its own folder or refused.
func FuzzLayer(f *testing.F) {
	pack := func(headers ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			if err := w.WriteHeader(&h); err != nil {
				f.Fatal(err)
			}
		}
		return b.Bytes() // without an end, as some are
	}
	f.Add(pack(tar.Header{Name: "a/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Mode: 0o644}))
	f.Add(pack(tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/"}, tar.Header{Name: "l/precious", Typeflag: tar.TypeReg}))
	f.Add(pack(tar.Header{Name: "../precious", Typeflag: tar.TypeReg}, tar.Header{Name: "a/../../x", Typeflag: tar.TypeDir}))
	f.Add(pack(tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../precious"}, tar.Header{Name: ".wh..wh..opq", Typeflag: tar.TypeReg}, tar.Header{Name: "x/.wh...", Typeflag: tar.TypeReg}))
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		precious := filepath.Join(top, "precious")
		if err := os.WriteFile(precious, []byte("host"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Root: filepath.Join(top, "images")})
		if err != nil {
			t.Fatal(err)
		}
		const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		_ = s.unpackLayer(bytes.NewReader(b), digest, 1<<20)
		if got, err := os.ReadFile(precious); err != nil || string(got) != "host" {
			t.Errorf("the host's file is %q, %v", got, err)
		}
		entries, err := os.ReadDir(top)
		if err != nil || len(entries) != 2 {
			t.Errorf("beside the images is %v, %v", entries, err)
		}
		if err := filepath.WalkDir(top, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Error(err)
		}
	})
}

// FuzzManifest: an index and a manifest of any content are an image or an error.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":1,"platform":{"os":"linux","architecture":"amd64"}},{"platform":{}}]}`))
	f.Add([]byte(`{"manifests":[{"size":-1}],"layers":[{"size":9223372036854775807}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		index, err := v1.ParseIndexManifest(bytes.NewReader(b))
		if err != nil {
			return
		}
		d, err := choose(index, v1.Platform{OS: "linux", Architecture: "amd64"})
		if (d == nil) == (err == nil) {
			t.Errorf("chose %v, %v", d, err)
		}
	})
}

// FuzzRegistries: a registries.yaml is read or refused, and what is read leads
// somewhere for every registry.
func FuzzRegistries(f *testing.F) {
	f.Add("mirrors:\n  docker.io:\n    endpoint: [\"http://127.0.0.1:5000\"]\n    rewrite: {\"^library/(.*)\": \"mirror/$1\"}\nconfigs:\n  r: {auth: {username: u, password: p}, tls: {insecure_skip_verify: true}}\n", "docker.io", "library/nginx")
	f.Add("mirrors: {\"*\": {endpoint: [\"https://x/v2\", \"y\"]}}", "quay.io", "a/b")
	f.Add("mirrors: {\"*\": {rewrite: {\"(((\": \"\"}}}", "", "")
	f.Fuzz(func(t *testing.T, text, host, repo string) {
		file := filepath.Join(t.TempDir(), "registries.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := LoadRegistries(file)
		if err != nil {
			if r != nil {
				t.Errorf("both %v and %v", r, err)
			}
			return
		}
		for _, e := range r.endpoints(host, repo) {
			if e == nil {
				t.Error("an endpoint is nil")
			}
		}
	})
}

// FuzzReference: names of images that are accepted name the same image when they
// are written out.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"nginx", "docker.io/library/nginx:1", "r:5000/a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "A", "a//b", "../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		full, err := Normalize(s)
		if err != nil {
			return
		}
		if again, err := Normalize(full); err != nil || again != full {
			b, _ := json.Marshal(s)
			t.Errorf("%s is %q and then %q, %v", b, full, again, err)
		}
	})
}
