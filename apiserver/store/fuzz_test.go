package store

import (
	"strings"
	"testing"
)

// FuzzContinue: a token of whatever origin leads to a key of the list that it is
// for, or is refused; a token of this server leads to where it was made.
func FuzzContinue(f *testing.F) {
	const prefix = "/registry/configmaps/ns/"
	f.Add(encodeContinue(prefix+"a", prefix, 7), "a", int64(7))
	f.Add("eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi9zZWNyZXRzIn0", "b/c", int64(-1))
	f.Add("", "..", int64(1))
	f.Fuzz(func(t *testing.T, token, name string, rev int64) {
		if from, _, err := decodeContinue(token, prefix); err == nil && (!strings.HasPrefix(from, prefix) || strings.Contains(from, "/../")) {
			t.Errorf("%q leads to %q", token, from)
		}
		if rev <= 0 || name == "" || strings.ContainsAny(name, "/.") || strings.ToValidUTF8(name, "") != name {
			return // no key of an object
		}
		from, got, err := decodeContinue(encodeContinue(prefix+name, prefix, rev), prefix)
		if err != nil || from != prefix+name+"\x00" || got != rev {
			t.Errorf("behind %q at %d leads to %q at %d, %v", name, rev, from, got, err)
		}
	})
}
