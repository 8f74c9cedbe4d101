package volume

import "testing"

func TestKnowsNoSwap(t *testing.T) {
	const all = "         0          0 4294967295\n"
	for _, tt := range []struct {
		name, release, users string
		want                 bool
	}{
		{"the first that has it", "6.4.0-1-amd64", all, true},
		{"one before", "6.1.0-49-cloud-amd64", all, false},
		{"a later major", "7.0", all, true},
		{"of a user namespace", "6.18.4", "0 100000 65536\n", false},
		{"not a release", "unknown", all, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := knowsNoSwap(tt.release, tt.users); got != tt.want {
				t.Errorf("knowsNoSwap(%q, %q) = %v, want %v", tt.release, tt.users, got, tt.want)
			}
		})
	}
}
