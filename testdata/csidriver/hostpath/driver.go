// Package hostpath is a CSI driver whose volumes are folders, or files behind
// loop devices, of the node it runs on.
package hostpath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Version of the driver.
const Version = "1.0.0"

// Config configures a Driver.
type Config struct {
	// Name and Node are the driver's and its node's.
	Name, Node string
	// Dir holds the volumes.
	Dir string
	// Dev is the machine's /dev.
	Dev string
	// Capacity of all volumes together.
	Capacity int64
	// MaxVolumes that the node can have; 0 means no limit.
	MaxVolumes int64
}

// Driver serves CSI.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	cfg Config

	mu sync.Mutex // one call at a time: the state is files
}

// New checks the configuration.
func New(cfg Config) (*Driver, error) {
	if cfg.Name == "" || cfg.Node == "" || !filepath.IsAbs(cfg.Dir) {
		return nil, errors.New("hostpath: Name, Node and an absolute Dir are required")
	}
	if cfg.Dev == "" {
		cfg.Dev = "/dev"
	}
	if cfg.Capacity <= 0 {
		cfg.Capacity = 1 << 40
	}
	return &Driver{cfg: cfg}, nil
}

// TopologyKey labels nodes with where volumes are.
func (d *Driver) TopologyKey() string { return "topology." + d.cfg.Name + "/node" }

// Serve serves on a socket until the context ends.
func (d *Driver) Serve(ctx context.Context, socket string) error {
	if err := os.MkdirAll(d.cfg.Dir, 0o750); err != nil {
		return err
	}
	l, err := Listen(socket)
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	csi.RegisterIdentityServer(srv, d)
	csi.RegisterControllerServer(srv, d)
	csi.RegisterNodeServer(srv, d)
	stop := context.AfterFunc(ctx, srv.GracefulStop)
	defer stop()
	return srv.Serve(l)
}

// Listen takes a socket over from one that is there no more.
func Listen(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("take over socket %s: %w", socket, err)
	}
	return net.Listen("unix", socket)
}

// GetPluginInfo implements csi.IdentityServer.
func (d *Driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.cfg.Name, VendorVersion: Version}, nil
}

// GetPluginCapabilities implements csi.IdentityServer.
func (d *Driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	service := func(t csi.PluginCapability_Service_Type) *csi.PluginCapability {
		return &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}}}
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		service(csi.PluginCapability_Service_CONTROLLER_SERVICE), service(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS),
		{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE}}},
	}}, nil
}

// Probe implements csi.IdentityServer.
func (d *Driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}
