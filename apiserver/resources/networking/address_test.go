package networking

import "testing"

func TestAddressName(t *testing.T) {
	for _, tc := range []struct {
		name, address string
		prefix, ok    bool
	}{
		{"of four parts", "10.0.0.1", false, true},
		{"of eight parts", "2001:db8::1", false, true},
		{"leading zeros", "10.0.0.01", false, false},
		{"no address", "a", false, false},
		{"a prefix of names", "a-", true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := addressName(tc.address, tc.prefix); (len(got) == 0) != tc.ok {
				t.Errorf("got %q", got)
			}
		})
	}
}
