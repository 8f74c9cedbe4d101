package featuregates

import (
	"bytes"
	"log/slog"
	"slices"
	"strconv"
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
		"none":                 {[]string{""}, "", ""},
		"one":                  {[]string{"WatchList=true"}, "WatchList=true", ""},
		"several":              {[]string{"WatchList=false, AllAlpha=true", "ImageVolume=true"}, "AllAlpha=true,ImageVolume=true,WatchList=false", ""},
		"the last wins":        {[]string{"WatchList=false", "WatchList=true"}, "WatchList=true", ""},
		"locked, as it is":     {[]string{"AggregatedDiscoveryRemoveBetaType=true"}, "AggregatedDiscoveryRemoveBetaType=true", ""},
		"locked":               {[]string{"AggregatedDiscoveryRemoveBetaType=false"}, "", "cannot set feature gate AggregatedDiscoveryRemoveBetaType to false, feature is locked to true"},
		"of the kubelet alone": {[]string{"DefaultPodSysctls=false"}, "DefaultPodSysctls=false", ""},
		"unknown":              {[]string{"WatchList=true,WotchList=true"}, "", "unrecognized feature gate: WotchList"},
		"no value":             {[]string{"WatchList"}, "", "missing bool value for WatchList"},
		"no bool":              {[]string{"WatchList=maybe"}, "", "invalid value of WatchList=maybe"},
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
	if err := g.Set("WatchList=true,APIServerIdentity=false"); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	g.Warn(slog.New(slog.NewTextHandler(&said, nil)), "apiServer")
	for _, want := range []string{"gate=APIServerIdentity value=false", "gate=WatchList value=true", "part=apiServer"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the log lacks %q: %s", want, said.String())
		}
	}
}

// TestKnown: the list is in order, and has every gate that the libraries declare, with
// its lock.
func TestKnown(t *testing.T) {
	var names []string
	for line := range strings.FieldsSeq(known) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	if !slices.IsSorted(names) {
		t.Error("known.txt is not in order: sort it byte by byte")
	}
	for name, spec := range utilfeature.DefaultMutableFeatureGate.GetAll() {
		want := ""
		if spec.LockToDefault {
			want = strconv.FormatBool(spec.Default)
		}
		if only, ok := locks()[string(name)]; !ok || only != want {
			t.Errorf("known.txt has %s=%s (there %t), want %s=%s", name, only, ok, name, want)
		}
	}
}
