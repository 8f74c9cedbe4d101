package csi

import (
	"context"
	"errors"
	"fmt"
	"time"

	csispec "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"skiff/kubelet/csinode"
	"skiff/kubelet/pluginwatch"
)

// callTime bounds each call of a driver.
const callTime = 2 * time.Minute

// features are the node capabilities that matter here.
type features struct {
	stage, expand, stats, multiWriter, mountGroup bool
}

func featuresOf(list []*csispec.NodeServiceCapability) features {
	var f features
	for _, c := range list {
		switch c.GetRpc().GetType() {
		case csispec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME:
			f.stage = true
		case csispec.NodeServiceCapability_RPC_EXPAND_VOLUME:
			f.expand = true
		case csispec.NodeServiceCapability_RPC_GET_VOLUME_STATS:
			f.stats = true
		case csispec.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER:
			f.multiWriter = true
		case csispec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP:
			f.mountGroup = true
		}
	}
	return f
}

// driver is a registered driver.
type driver struct {
	info pluginwatch.Info
	conn *grpc.ClientConn
	features
	asked time.Time // when it was asked for its limits last
}

func (d *driver) node() csispec.NodeClient { return csispec.NewNodeClient(d.conn) }

// open connects to a driver and asks what it can do.
func open(ctx context.Context, info pluginwatch.Info) (*driver, error) {
	conn, err := pluginwatch.Dial(info.Endpoint)
	if err != nil {
		return nil, err
	}
	d := &driver{info: info, conn: conn}
	got, err := call(ctx, func(ctx context.Context) (*csispec.NodeGetCapabilitiesResponse, error) {
		return d.node().NodeGetCapabilities(ctx, &csispec.NodeGetCapabilitiesRequest{}, grpc.WaitForReady(true))
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask CSI driver %s for its capabilities: %w", info.Name, err), conn.Close())
	}
	d.features = featuresOf(got.GetCapabilities())
	return d, nil
}

// self asks what the driver calls this node.
func (d *driver) self(ctx context.Context) (csinode.Driver, error) {
	got, err := call(ctx, func(ctx context.Context) (*csispec.NodeGetInfoResponse, error) {
		return d.node().NodeGetInfo(ctx, &csispec.NodeGetInfoRequest{})
	})
	if err != nil {
		return csinode.Driver{}, fmt.Errorf("ask CSI driver %s about its node: %w", d.info.Name, err)
	}
	if got.GetNodeId() == "" {
		return csinode.Driver{}, fmt.Errorf("CSI driver %s gave an empty node_id", d.info.Name)
	}
	return csinode.Driver{NodeID: got.GetNodeId(), Topology: got.GetAccessibleTopology().GetSegments(), MaxVolumes: got.GetMaxVolumesPerNode()}, nil
}

// call runs one call within its time.
func call[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return f(ctx)
}

// infeasible reports whether asking again cannot help.
func infeasible(err error) bool {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.OutOfRange, codes.NotFound, codes.Unimplemented:
		return true
	}
	return false
}
