package featuregates

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "k8s.io/apiserver/pkg/features" // registers the server's gates
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

func TestSet(t *testing.T) {
	for name, tc := range map[string]struct {
		texts []string
		want  string
		err   string
	}{
		"none":          {[]string{""}, "", ""},
		"one":           {[]string{"WatchList=true"}, "WatchList=true", ""},
		"several":       {[]string{"WatchList=false, AllAlpha=true", "ImageVolume=true"}, "AllAlpha=true,ImageVolume=true,WatchList=false", ""},
		"the last wins": {[]string{"WatchList=false", "WatchList=true"}, "WatchList=true", ""},
		"unknown":       {[]string{"WatchList=true,WotchList=true"}, "", "unrecognized feature gate: WotchList"},
		"no value":      {[]string{"WatchList"}, "", "missing bool value for WatchList"},
		"no bool":       {[]string{"WatchList=maybe"}, "", "invalid value of WatchList=maybe"},
	} {
		t.Run(name, func(t *testing.T) {
			var g Gates
			var err error
			for _, text := range tc.texts {
				if err = g.Set(text); err != nil {
					break
				}
			}
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want one with %q", err, tc.err)
			}
			if d := cmp.Diff(tc.want, g.String()); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWarn(t *testing.T) {
	var g Gates
	if err := g.Set("WatchList=true,ImageVolume=false"); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	g.Warn(slog.New(slog.NewTextHandler(&said, nil)), "apiServer")
	for _, want := range []string{"gate=ImageVolume value=false", "gate=WatchList value=true", "part=apiServer"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the log lacks %q: %s", want, said.String())
		}
	}
}

// TestKnown: the list is in order, and has every gate that the libraries declare.
func TestKnown(t *testing.T) {
	names := strings.Fields(known)
	if !slices.IsSorted(names) {
		t.Error("known.txt is not in order: sort it byte by byte")
	}
	for name := range utilfeature.DefaultMutableFeatureGate.GetAll() {
		if _, ok := slices.BinarySearch(names, string(name)); !ok {
			t.Errorf("known.txt lacks %s", name)
		}
	}
}
