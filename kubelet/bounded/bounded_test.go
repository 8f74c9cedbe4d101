package bounded

import "testing"

func TestText(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		limit      int
		want       string
	}{
		{"short", "abc", 3, "abc"},
		{"long", "abcdefgh", 6, "abc..."},
		{"amid a character", "abäcdefgh", 6, "ab..."},
		{"not text", "a\xffb", 10, "ab"},
		{"hardly any room", "abcdef", 2, ".."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Text(tc.text, tc.limit); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
