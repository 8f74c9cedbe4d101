package hostpath

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	defaultSize = 1 << 20
	unit        = 1 << 20
)

// ControllerGetCapabilities implements csi.ControllerServer.
func (d *Driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	out := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME, csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY, csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		out.Capabilities = append(out.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return out, nil
}

// sizeOf is the size that fits a range, in whole units.
func sizeOf(r *csi.CapacityRange, least int64) (int64, error) {
	want, limit := r.GetRequiredBytes(), r.GetLimitBytes()
	if want < 0 || limit < 0 {
		return 0, status.Error(codes.InvalidArgument, "capacity_range: must not be negative")
	}
	size := (max(want, least) + unit - 1) / unit * unit
	if limit > 0 && size > limit {
		if want > limit {
			return 0, status.Errorf(codes.OutOfRange, "capacity_range: %d bytes are wanted, but at most %d", want, limit)
		}
		size = limit
	}
	return size, nil
}

// unsupported says why a capability cannot be had.
func unsupported(c *csi.VolumeCapability) error {
	if c == nil {
		return status.Error(codes.InvalidArgument, "volume_capability is missing")
	}
	if c.GetBlock() == nil && c.GetMount() == nil {
		return status.Error(codes.InvalidArgument, "volume_capability: access_type is missing")
	}
	switch c.GetAccessMode().GetMode() {
	case csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER, csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		return status.Error(codes.InvalidArgument, "a volume is on one node alone")
	}
	return nil
}

// CreateVolume implements csi.ControllerServer.
func (d *Driver) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "name is missing")
	}
	if len(r.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "volume_capabilities are missing")
	}
	if r.GetVolumeContentSource() != nil {
		return nil, status.Error(codes.InvalidArgument, "volumes cannot be made from others")
	}
	block := false
	for _, c := range r.GetVolumeCapabilities() {
		if err := unsupported(c); err != nil {
			return nil, err
		}
		block = block || c.GetBlock() != nil
	}
	size, err := sizeOf(r.GetCapacityRange(), defaultSize)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	id := fmt.Sprintf("%x", sha256.Sum256([]byte(r.GetName())))[:32]
	v, err := d.load(id)
	switch {
	case err == nil:
		limit := r.GetCapacityRange().GetLimitBytes()
		if v.Size < r.GetCapacityRange().GetRequiredBytes() || limit > 0 && v.Size > limit || v.Block != block {
			return nil, status.Errorf(codes.AlreadyExists, "volume %q is there with other properties", r.GetName())
		}
	case status.Code(err) != codes.NotFound:
		return nil, err
	default:
		free, err := d.free()
		if err != nil {
			return nil, err
		}
		if size > free {
			return nil, status.Errorf(codes.ResourceExhausted, "%d bytes are wanted, %d are free", size, free)
		}
		v = &volume{ID: id, Name: r.GetName(), Size: size, Block: block, Grown: size}
		if err := d.create(v); err != nil {
			return nil, err
		}
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: v.ID, CapacityBytes: v.Size, VolumeContext: r.GetParameters(),
		AccessibleTopology: []*csi.Topology{{Segments: map[string]string{d.TopologyKey(): d.cfg.Node}}},
	}}, nil
}

func (d *Driver) free() (int64, error) {
	all, err := d.list()
	if err != nil {
		return 0, err
	}
	free := d.cfg.Capacity
	for _, v := range all {
		free -= v.Size
	}
	return max(free, 0), nil
}

// DeleteVolume implements csi.ControllerServer.
func (d *Driver) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id is missing")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.load(r.GetVolumeId())
	switch {
	case status.Code(err) == codes.NotFound:
		return &csi.DeleteVolumeResponse{}, nil
	case err != nil:
		return nil, err
	case v.Attached:
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is attached", v.ID)
	}
	return &csi.DeleteVolumeResponse{}, d.remove(v.ID)
}

// ControllerPublishVolume implements csi.ControllerServer.
func (d *Driver) ControllerPublishVolume(_ context.Context, r *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetNodeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id or node_id is missing")
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
	if r.GetNodeId() != d.cfg.Node {
		return nil, status.Errorf(codes.NotFound, "volume %s is on node %q, not on %q", v.ID, d.cfg.Node, r.GetNodeId())
	}
	if v.Attached && v.ReadOnly != r.GetReadonly() {
		return nil, status.Errorf(codes.AlreadyExists, "volume %s is attached with readonly %t", v.ID, v.ReadOnly)
	}
	v.Attached, v.ReadOnly = true, r.GetReadonly()
	if err := d.save(v); err != nil {
		return nil, err
	}
	return &csi.ControllerPublishVolumeResponse{PublishContext: map[string]string{"folder": d.dir(v.ID)}}, nil
}

// ControllerUnpublishVolume implements csi.ControllerServer.
func (d *Driver) ControllerUnpublishVolume(_ context.Context, r *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id is missing")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.load(r.GetVolumeId())
	if status.Code(err) == codes.NotFound {
		return &csi.ControllerUnpublishVolumeResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	v.Attached, v.ReadOnly = false, false
	return &csi.ControllerUnpublishVolumeResponse{}, d.save(v)
}

// ValidateVolumeCapabilities implements csi.ControllerServer.
func (d *Driver) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if r.GetVolumeId() == "" || len(r.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "volume_id or volume_capabilities are missing")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.load(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	for _, c := range r.GetVolumeCapabilities() {
		if err := unsupported(c); err != nil {
			return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
		}
		if (c.GetBlock() != nil) != v.Block {
			return &csi.ValidateVolumeCapabilitiesResponse{Message: "the volume has another access type"}, nil
		}
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: r.GetVolumeContext(), VolumeCapabilities: r.GetVolumeCapabilities(), Parameters: r.GetParameters(),
	}}, nil
}

// GetCapacity implements csi.ControllerServer.
func (d *Driver) GetCapacity(context.Context, *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	free, err := d.free()
	return &csi.GetCapacityResponse{AvailableCapacity: free}, err
}

// ControllerExpandVolume implements csi.ControllerServer.
func (d *Driver) ControllerExpandVolume(_ context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetCapacityRange() == nil {
		return nil, status.Error(codes.InvalidArgument, "volume_id or capacity_range is missing")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.load(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	size, err := sizeOf(r.GetCapacityRange(), v.Size)
	if err != nil {
		return nil, err
	}
	if free, err := d.free(); err != nil || size-v.Size > free {
		return nil, status.Errorf(codes.OutOfRange, "volume %s cannot grow to %d bytes: %d are free (%v)", v.ID, size, free, err)
	}
	if size > v.Size {
		v.Size = size
		if err := d.save(v); err != nil {
			return nil, err
		}
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.Size, NodeExpansionRequired: true}, nil
}
