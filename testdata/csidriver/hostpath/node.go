package hostpath

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NodeGetCapabilities implements csi.NodeServer.
func (d *Driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	out := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME, csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME, csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		out.Capabilities = append(out.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return out, nil
}

// NodeGetInfo implements csi.NodeServer.
func (d *Driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{
		NodeId: d.cfg.Node, MaxVolumesPerNode: d.cfg.MaxVolumes,
		AccessibleTopology: &csi.Topology{Segments: map[string]string{d.TopologyKey(): d.cfg.Node}},
	}, nil
}

// NodeStageVolume implements csi.NodeServer.
func (d *Driver) NodeStageVolume(_ context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetStagingTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id or staging_target_path is missing")
	}
	if err := unsupported(r.GetVolumeCapability()); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.load(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if v.Block {
		_, err = attachLoop(d.cfg.Dev, d.data(v))
	} else {
		err = bind(d.data(v), r.GetStagingTargetPath(), false)
	}
	return &csi.NodeStageVolumeResponse{}, internal(err)
}

// NodeUnstageVolume implements csi.NodeServer.
func (d *Driver) NodeUnstageVolume(_ context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetStagingTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id or staging_target_path is missing")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := unmount(r.GetStagingTargetPath()); err != nil {
		return nil, internal(err)
	}
	v, err := d.load(r.GetVolumeId())
	if status.Code(err) == codes.NotFound {
		return &csi.NodeUnstageVolumeResponse{}, nil
	}
	if err == nil && v.Block {
		err = internal(detachLoop(d.cfg.Dev, d.data(v)))
	}
	return &csi.NodeUnstageVolumeResponse{}, err
}

// NodePublishVolume implements csi.NodeServer.
func (d *Driver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id or target_path is missing")
	}
	if err := unsupported(r.GetVolumeCapability()); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ephemeral, _ := strconv.ParseBool(r.GetVolumeContext()["csi.storage.k8s.io/ephemeral"])
	v, err := d.load(r.GetVolumeId())
	if status.Code(err) == codes.NotFound && ephemeral && plain(r.GetVolumeId()) {
		v = &volume{ID: r.GetVolumeId(), Name: r.GetVolumeId(), Size: defaultSize, Ephemeral: true, Grown: defaultSize}
		err = d.create(v)
	}
	if err != nil {
		return nil, err
	}
	source := r.GetStagingTargetPath()
	switch {
	case v.Ephemeral:
		source = d.data(v)
	case source == "":
		return nil, status.Error(codes.FailedPrecondition, "staging_target_path is missing")
	case v.Block:
		if source, err = attachLoop(d.cfg.Dev, d.data(v)); err != nil {
			return nil, internal(err)
		}
	}
	if len(r.GetVolumeContext()) > 0 && v.Ephemeral {
		if err := note(d.data(v), r); err != nil {
			return nil, internal(err)
		}
	}
	if !slices.Contains(v.Targets, r.GetTargetPath()) {
		if len(v.Targets) > 0 && r.GetVolumeCapability().GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
			return nil, status.Errorf(codes.FailedPrecondition, "volume %s is published at %s for one writer alone", v.ID, v.Targets[0])
		}
		v.Targets = append(v.Targets, r.GetTargetPath())
		if err := d.save(v); err != nil {
			return nil, err
		}
	}
	return &csi.NodePublishVolumeResponse{}, internal(bind(source, r.GetTargetPath(), r.GetReadonly()))
}

// note tells the pod what the driver was told about it.
func note(dir string, r *csi.NodePublishVolumeRequest) error {
	for key, value := range r.GetVolumeContext() {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(key)), []byte(value), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// NodeUnpublishVolume implements csi.NodeServer.
func (d *Driver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id or target_path is missing")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := unmount(r.GetTargetPath()); err != nil {
		return nil, internal(err)
	}
	if err := os.Remove(r.GetTargetPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, internal(err)
	}
	v, err := d.load(r.GetVolumeId())
	switch {
	case err == nil && v.Ephemeral:
		err = d.remove(v.ID)
	case err == nil && slices.Contains(v.Targets, r.GetTargetPath()):
		v.Targets = slices.DeleteFunc(v.Targets, func(t string) bool { return t == r.GetTargetPath() })
		err = d.save(v)
	}
	if status.Code(err) == codes.NotFound {
		err = nil
	}
	return &csi.NodeUnpublishVolumeResponse{}, err
}

// NodeExpandVolume implements csi.NodeServer.
func (d *Driver) NodeExpandVolume(_ context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetVolumePath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id or volume_path is missing")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.load(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(r.GetVolumePath()); err != nil {
		return nil, status.Errorf(codes.NotFound, "volume %s is not at %s", v.ID, r.GetVolumePath())
	}
	if v.Block {
		if err := resizeFile(d.data(v), v.Size); err != nil {
			return nil, internal(err)
		}
		if err := growLoop(d.cfg.Dev, d.data(v)); err != nil {
			return nil, internal(err)
		}
	}
	v.Grown = v.Size
	return &csi.NodeExpandVolumeResponse{CapacityBytes: v.Grown}, d.save(v)
}

// NodeGetVolumeStats implements csi.NodeServer.
func (d *Driver) NodeGetVolumeStats(_ context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if r.GetVolumeId() == "" || r.GetVolumePath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id or volume_path is missing")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.load(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(r.GetVolumePath()); err != nil {
		return nil, status.Errorf(codes.NotFound, "volume %s is not at %s", v.ID, r.GetVolumePath())
	}
	if v.Block {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: v.Grown}}}, nil
	}
	bytes, inodes, err := usage(d.data(v))
	if err != nil {
		return nil, internal(err)
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: v.Grown, Used: bytes, Available: max(v.Grown-bytes, 0)},
		{Unit: csi.VolumeUsage_INODES, Used: inodes},
	}}, nil
}

func internal(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codes.Internal, err.Error())
}
