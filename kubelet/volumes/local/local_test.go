package local

import (
	"errors"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/volume"
)

// A folder that nobody has made is told of as upstream tells of it.
func TestMissingFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	pv := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{PersistentVolumeSource: v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}}}}
	_, err := (&Plugin{Mounter: mount.NewFakeMounter(nil)}).SetUp(t.Context(), &volume.Request{PV: pv, Dir: t.TempDir()})
	var at *volume.StepError
	if !errors.As(err, &at) || at.Step != "MountVolume.NewMounter initialization" || at.Error() != `path "`+path+`" does not exist` {
		t.Errorf("%v", err)
	}
}
