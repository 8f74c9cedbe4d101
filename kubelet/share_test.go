package kubelet

import (
	"testing"

	"k8s.io/mount-utils"
)

func TestSharingOf(t *testing.T) {
	at := func(point string, fields ...string) mount.MountInfo {
		return mount.MountInfo{MountPoint: point, OptionalFields: fields}
	}
	for _, tc := range []struct {
		name   string
		mounts []mount.MountInfo
		want   sharing
	}{
		{"a machine with systemd", []mount.MountInfo{at("/", "shared:1"), at("/k/x/pods/p", "shared:2")}, isShared},
		{"private mounts", []mount.MountInfo{at("/")}, mustBind},
		{"a disk of its own", []mount.MountInfo{at("/"), at("/k/x")}, mustShare},
		{"shared before", []mount.MountInfo{at("/"), at("/k/x", "shared:7"), at("/k/x/pods/p", "shared:8")}, isShared},
		{"private on a shared one", []mount.MountInfo{at("/", "shared:1"), at("/k")}, mustBind},
		{"a shared one that is hidden", []mount.MountInfo{at("/"), at("/k/x", "shared:7"), at("/k/x")}, mustShare},
		{"in use", []mount.MountInfo{at("/"), at("/k/x/pods/p")}, cannotBind},
		{"others of a similar name", []mount.MountInfo{at("/"), at("/k/xy", "shared:1"), at("/k/xy/pods")}, mustBind},
		{"a follower", []mount.MountInfo{at("/", "master:1")}, mustBind},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := sharingOf("/k/x", tc.mounts); got != tc.want {
				t.Errorf("sharing is %d, want %d", got, tc.want)
			}
		})
	}
}
