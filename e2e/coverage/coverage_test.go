package coverage

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write docs/coverage.md anew")

const (
	root = "../.."
	page = root + "/docs/coverage.md"
	spec = root + "/../shared/spec/conformance.yaml"
)

// TestPage compares the page with what the tests say.
func TestPage(t *testing.T) {
	got, err := os.ReadFile(page)
	if err != nil && !*update {
		t.Fatal(err)
	}
	// The code names are in the page too, for where the contract is not.
	names := Names(got)
	b, err := os.ReadFile(spec)
	switch {
	case err == nil:
		var rows []struct{ Codename string }
		if err := yaml.Unmarshal(b, &rows); err != nil {
			t.Fatal(err)
		}
		names = nil
		for _, r := range rows {
			names = append(names, Name(r.Codename))
		}
		slices.Sort(names)
	case !errors.Is(err, fs.ErrNotExist):
		t.Fatal(err)
	}
	text, err := os.ReadFile("lines.txt")
	if err != nil {
		t.Fatal(err)
	}
	sections, err := ParseLines(string(text))
	if err != nil {
		t.Fatal(err)
	}
	conformance, covers, err := Scan(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	known, ids := make(map[string]bool), make(map[string]bool)
	for _, n := range names {
		known[n] = true
	}
	for _, s := range sections {
		for _, l := range s.Lines {
			ids[l.ID] = true
		}
	}
	for _, u := range append(Unknown(conformance, known), Unknown(covers, ids)...) {
		t.Error(u)
	}
	want := Render(names, sections, conformance, covers)
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/coverage.md is not what the tests say (-want +got): run go test ./e2e/coverage -update\n%s", diff)
	}
}

func TestScan(t *testing.T) {
	file := "package x\n\n" +
		"// TestA is first.\n//\n" + conformanceMark + "[sig-a] One\nfunc TestA(t *testing.T) {\n" +
		"\t" + coversMark + "a.b, c.d\n}\n\n" +
		"func short() {}\n\n" +
		conformanceMark + "[sig-a] Two\nfunc (s *space) two() {\n}\n"
	conformance, covers, err := Scan(fstest.MapFS{"p/x_test.go": {Data: []byte(file)}, "p/x.go": {Data: []byte(file)}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Mark{{"[sig-a] One", "TestA", "p/x_test.go", 5}, {"[sig-a] Two", "two", "p/x_test.go", 12}}
	if diff := cmp.Diff(want, conformance); diff != "" {
		t.Error(diff)
	}
	want = []Mark{{"a.b", "TestA", "p/x_test.go", 7}, {"c.d", "TestA", "p/x_test.go", 7}}
	if diff := cmp.Diff(want, covers); diff != "" {
		t.Error(diff)
	}
	names := []string{"[sig-a] One", "[sig-a] Three | Four"}
	made := Render(names, []Section{{Title: "S", Lines: []Line{{"a.b", "it works"}}}}, conformance, covers)
	if diff := cmp.Diff(names, Names(made)); diff != "" {
		t.Error(diff)
	}
}
