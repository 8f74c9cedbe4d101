package workflow

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func phases() []Phase[*[]string] {
	note := func(name string) func(context.Context, *[]string) error {
		return func(_ context.Context, log *[]string) error { *log = append(*log, name); return nil }
	}
	return []Phase[*[]string]{
		{Name: "preflight", Run: note("preflight")},
		{Name: "certs", Phases: []Phase[*[]string]{
			{Name: "ca", Run: note("ca")},
			{Name: "apiserver", Run: note("apiserver")},
		}},
		{Name: "addon", Run: note("addon")},
	}
}

func TestSteps(t *testing.T) {
	tests := []struct {
		name string
		skip []string
		only string
		want []string
		err  string
	}{
		{name: "all in order", want: []string{"preflight", "ca", "apiserver", "addon"}},
		{name: "one skipped", skip: []string{"certs/ca"}, want: []string{"preflight", "apiserver", "addon"}},
		{name: "a group skipped", skip: []string{"certs"}, want: []string{"preflight", "addon"}},
		{name: "one alone", only: "certs/apiserver", want: []string{"apiserver"}},
		{name: "a group alone", only: "certs", want: []string{"ca", "apiserver"}},
		{name: "an unknown one skipped", skip: []string{"cert"}, err: `phase "cert" does not exist`},
		{name: "an unknown one alone", only: "x", err: `phase "x" does not exist`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			steps, err := Steps(phases(), tt.skip, tt.only)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if err := Run(t.Context(), steps, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("steps run (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRunStopsAndNamesThePhase(t *testing.T) {
	boom := errors.New("boom")
	list := phases()
	list[1].Phases[0].Run = func(context.Context, *[]string) error { return boom }
	steps, err := Steps(list, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = Run(t.Context(), steps, &got)
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "phase certs/ca") {
		t.Errorf("error %v does not name the phase or wrap the cause", err)
	}
	if diff := cmp.Diff([]string{"preflight"}, got); diff != "" {
		t.Errorf("steps run (-want +got):\n%s", diff)
	}
}
