package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is started logs as the command that starts it was told to.
func TestLogFlags(t *testing.T) {
	for _, tc := range []struct {
		name       string
		args, want []string
	}{
		{"none", []string{"up"}, nil},
		{"both", []string{"up", "-v", "6", "--logging-format", "json"}, []string{"--v=6", "--logging-format=json"}},
		{"before the command", []string{"-v=4", "up"}, []string{"--v=4"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd, rest, err := root().Find(tc.args)
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.ParseFlags(rest); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, logFlags(cmd)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
