package sidecar

import (
	"context"
	"errors"
	"log"
	"os"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"skiff/testdata/csidriver/hostpath"
)

// Registrar offers a driver to the kubelet.
type Registrar struct {
	registration.UnimplementedRegistrationServer
	// Driver is its name; Endpoint its socket, as the kubelet sees it.
	Driver, Endpoint string
	// Path is the registrar's own socket, in the kubelet's folder.
	Path string
}

// GetInfo implements registration.RegistrationServer.
func (r *Registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: r.Driver, Endpoint: r.Endpoint, SupportedVersions: []string{hostpath.Version}}, nil
}

// NotifyRegistrationStatus implements registration.RegistrationServer.
func (r *Registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !s.PluginRegistered {
		log.Print("registrar: the kubelet refused the driver: ", s.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

// Run offers the driver until the context ends, and then takes it back.
func (r *Registrar) Run(ctx context.Context) error {
	l, err := hostpath.Listen(r.Path)
	if err != nil {
		return err
	}
	srv := grpc.NewServer()
	registration.RegisterRegistrationServer(srv, r)
	stop := context.AfterFunc(ctx, srv.GracefulStop)
	defer stop()
	err = srv.Serve(l)
	if removed := os.Remove(r.Path); removed != nil && !errors.Is(removed, os.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}
