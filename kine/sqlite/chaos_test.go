package sqlite

import (
	"path/filepath"
	"testing"

	"skiff/kine/kinetest"
)

func TestChaos(t *testing.T) {
	s := newStore(t, filepath.Join(t.TempDir(), "state.db"))
	kinetest.Start(t, s)
	kinetest.Chaos{Store: s}.Run(t)
}
