package attachdetach

import "testing"

func TestMade(t *testing.T) {
	for name, want := range map[string]bool{
		AttachmentName("handle", "driver", "node"): true,
		"csi-1234":         false,
		"va-conformance-1": false,
		"csi-" + "zz0000000000000000000000000000000000000000000000000000000000zz0000": false,
	} {
		if got := Made(name); got != want {
			t.Errorf("%s: made here: %v, want %v", name, got, want)
		}
	}
}
