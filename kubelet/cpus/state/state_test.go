package state

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUpstreamsFiles reads what upstream kubelets wrote, and writes it again.
func TestUpstreamsFiles(t *testing.T) {
	for _, text := range []string{
		`{"policyName":"none","defaultCpuSet":"","checksum":1353318690}`,
		`{"policyName":"static","defaultCpuSet":"0-27","checksum":273146150}`,
		`{"policyName":"static","defaultCpuSet":"0,10-15,25-31","entries":{"777870b5-c64f-42f5-9296-688b9dc212ba":{"container-1":"16-24"},"fb15e10a-b6a5-4aaa-8fcd-76c1aa64e6fd":{"container-1":"1-9"}},"checksum":318470969}`,
	} {
		s, err := Decode([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := Encode(s)
		if diff := cmp.Diff(text, string(got)); err != nil || diff != "" {
			t.Errorf("written again: %v (-want +got):\n%s", err, diff)
		}
		if _, err := Decode([]byte(strings.Replace(text, "policyName\":\"", "policyName\":\"x", 1))); err == nil {
			t.Errorf("%s: a changed file was accepted", text)
		}
	}
}
