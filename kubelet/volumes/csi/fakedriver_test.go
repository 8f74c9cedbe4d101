package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	csispec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/volume"
)

// fakeDriver notes what it is asked and mounts into a fake mount table.
type fakeDriver struct {
	csispec.UnimplementedNodeServer
	mounter mount.Interface

	mu    sync.Mutex // guards what follows
	calls []string
	last  *csispec.NodePublishVolumeRequest
	fail  map[string]error
	// staging, when set, is called while a volume is staged.
	staging func()
}

func (d *fakeDriver) note(name, detail string) error {
	d.mu.Lock()
	d.calls = append(d.calls, strings.TrimSpace(name+" "+detail))
	d.mu.Unlock()
	return d.failure(name)
}

// failure gives the failure that is due, once.
func (d *fakeDriver) failure(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.fail[name]
	delete(d.fail, name)
	return err
}

// took returns the calls since it was asked last.
func (d *fakeDriver) took() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.calls
	d.calls = nil
	return out
}

func (d *fakeDriver) NodeGetCapabilities(context.Context, *csispec.NodeGetCapabilitiesRequest) (*csispec.NodeGetCapabilitiesResponse, error) {
	out := &csispec.NodeGetCapabilitiesResponse{}
	for _, kind := range []csispec.NodeServiceCapability_RPC_Type{
		csispec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csispec.NodeServiceCapability_RPC_EXPAND_VOLUME, csispec.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	} {
		out.Capabilities = append(out.Capabilities, &csispec.NodeServiceCapability{Type: &csispec.NodeServiceCapability_Rpc{Rpc: &csispec.NodeServiceCapability_RPC{Type: kind}}})
	}
	return out, nil
}

func (d *fakeDriver) NodeGetInfo(context.Context, *csispec.NodeGetInfoRequest) (*csispec.NodeGetInfoResponse, error) {
	return &csispec.NodeGetInfoResponse{NodeId: "id-1", MaxVolumesPerNode: 5, AccessibleTopology: &csispec.Topology{Segments: map[string]string{"where": "here"}}}, nil
}

func (d *fakeDriver) NodeStageVolume(_ context.Context, r *csispec.NodeStageVolumeRequest) (*csispec.NodeStageVolumeResponse, error) {
	if _, err := os.Stat(r.StagingTargetPath); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := d.note("stage", r.VolumeId); err != nil {
		return nil, err
	}
	if d.staging != nil {
		d.staging()
	}
	return &csispec.NodeStageVolumeResponse{}, d.mounter.Mount(r.VolumeId, r.StagingTargetPath, "", nil)
}

func (d *fakeDriver) NodeUnstageVolume(_ context.Context, r *csispec.NodeUnstageVolumeRequest) (*csispec.NodeUnstageVolumeResponse, error) {
	if err := d.note("unstage", r.VolumeId); err != nil {
		return nil, err
	}
	return &csispec.NodeUnstageVolumeResponse{}, d.unmount(r.StagingTargetPath)
}

func (d *fakeDriver) NodePublishVolume(_ context.Context, r *csispec.NodePublishVolumeRequest) (*csispec.NodePublishVolumeResponse, error) {
	if err := d.note("publish", r.VolumeId); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.last = r
	d.mu.Unlock()
	if r.VolumeCapability.GetBlock() != nil {
		// A device that is always there takes the place of a bind mount.
		if err := os.Symlink("/dev/null", r.TargetPath); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		return &csispec.NodePublishVolumeResponse{}, nil
	}
	if mounted, err := volume.MountPoint(d.mounter, r.TargetPath); err == nil && mounted {
		return &csispec.NodePublishVolumeResponse{}, nil
	}
	if err := os.MkdirAll(r.TargetPath, 0o750); err != nil {
		return nil, err
	}
	if err := d.mounter.Mount(r.StagingTargetPath, r.TargetPath, "", []string{"bind"}); err != nil {
		return nil, err
	}
	return &csispec.NodePublishVolumeResponse{}, d.failure("answering")
}

func (d *fakeDriver) NodeUnpublishVolume(_ context.Context, r *csispec.NodeUnpublishVolumeRequest) (*csispec.NodeUnpublishVolumeResponse, error) {
	if err := d.note("unpublish", r.VolumeId); err != nil {
		return nil, err
	}
	return &csispec.NodeUnpublishVolumeResponse{}, d.unmount(r.TargetPath)
}

func (d *fakeDriver) unmount(path string) error {
	if mounted, err := volume.MountPoint(d.mounter, path); err != nil || !mounted {
		return err
	}
	return d.mounter.Unmount(path)
}

func (d *fakeDriver) NodeExpandVolume(_ context.Context, r *csispec.NodeExpandVolumeRequest) (*csispec.NodeExpandVolumeResponse, error) {
	return &csispec.NodeExpandVolumeResponse{}, d.note("expand", fmt.Sprintf("%s to %d", r.VolumeId, r.CapacityRange.RequiredBytes))
}

func (d *fakeDriver) NodeGetVolumeStats(context.Context, *csispec.NodeGetVolumeStatsRequest) (*csispec.NodeGetVolumeStatsResponse, error) {
	return &csispec.NodeGetVolumeStatsResponse{Usage: []*csispec.VolumeUsage{
		{Unit: csispec.VolumeUsage_BYTES, Total: 100, Used: 40, Available: 60}, {Unit: csispec.VolumeUsage_INODES, Total: 10, Used: 4, Available: 6},
	}}, nil
}
