// Command csidriver is a small CSI driver for the tests of clusters: volumes
// are folders, or files behind loop devices, of the node. One process does what
// a driver and the containers beside it do; testdata/manifests/csi-driver.yaml
// deploys it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/rest"

	"skiff/testdata/csidriver/hostpath"
	"skiff/testdata/csidriver/sidecar"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "csidriver:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	name := flag.String("driver", "hostpath.csi.skiff.test", "the driver's name")
	node := flag.String("node", os.Getenv("NODE_NAME"), "the node's name")
	kubelet := flag.String("kubelet", "/var/lib/kubelet", "the kubelet's folder, at the same place as on the node")
	dir := flag.String("volumes", "/volumes", "the folder of volumes")
	most := flag.Int64("max-volumes", 0, "how many volumes the node can have; 0 for no limit")
	capacity := flag.Int64("capacity", 1<<40, "how many bytes all volumes can have together")
	flag.Parse()
	driver, err := hostpath.New(hostpath.Config{Name: *name, Node: *node, Dir: *dir, MaxVolumes: *most, Capacity: *capacity})
	if err != nil {
		return err
	}
	socket := filepath.Join(*kubelet, "plugins", *name, "csi.sock")
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	side, err := sidecar.New(sidecar.Config{API: config, Driver: *name, Node: *node, TopologyKey: driver.TopologyKey(), Controller: csi.NewControllerClient(conn)})
	if err != nil {
		return err
	}
	registrar := &sidecar.Registrar{Driver: *name, Endpoint: socket, Path: filepath.Join(*kubelet, "plugins_registry", *name+"-reg.sock")}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := []func(context.Context) error{func(ctx context.Context) error { return driver.Serve(ctx, socket) }, registrar.Run, side.Run}
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() {
			defer cancel()
			errs[i] = part(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
