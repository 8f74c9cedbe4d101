package state

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUpstreamsFile reads what an upstream kubelet wrote, and writes it again.
func TestUpstreamsFile(t *testing.T) {
	const text = `{"policyName":"None","machineState":{},"checksum":4236770233}`
	policy, machine, entries, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Encode(policy, machine, entries)
	if diff := cmp.Diff(text, string(got)); err != nil || diff != "" {
		t.Errorf("written again: %v (-want +got):\n%s", err, diff)
	}
	if _, _, _, err := Decode([]byte(strings.Replace(text, "None", "Static", 1))); err == nil {
		t.Error("a changed file was accepted")
	}
}
