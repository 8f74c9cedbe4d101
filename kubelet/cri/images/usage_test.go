package images

import (
	"os"
	"path/filepath"
	"testing"

	"skiff/kubelet/diskusage"
)

// The use of the store follows its images, and a layer is looked through only once.
func TestUsage(t *testing.T) {
	needRoot(t)
	f := newFixture(t)
	use := func() diskusage.Usage {
		t.Helper()
		u, err := f.store.Usage()
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	empty := use()
	f.push(t, "mirrored/app:1", makeImage(t, makeLayer(t, file("a", "1"), file("b", "2"))))
	got, err := f.store.Pull(t.Context(), "app:1", Auth{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pulled := use()
	if pulled.Inodes < empty.Inodes+2 || pulled.Bytes <= empty.Bytes {
		t.Errorf("an image of two files takes %+v, nothing took %+v", pulled, empty)
	}
	// Nobody writes there; a file that comes nevertheless shows that no one looks again.
	extra := filepath.Join(f.store.LayerRoot(), layerName(got.Layers[0]), "extra")
	if err := os.WriteFile(extra, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again := use(); again != pulled {
		t.Errorf("the same image takes %+v and then %+v", pulled, again)
	}
	if err := f.store.Remove("app:1"); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Sweep(nil); err != nil {
		t.Fatal(err)
	}
	if left := use(); left.Inodes != empty.Inodes {
		t.Errorf("without images the store takes %+v, at first %+v", left, empty)
	}
}
