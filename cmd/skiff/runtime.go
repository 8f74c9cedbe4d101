package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	criclient "k8s.io/cri-client/pkg"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	kubelettypes "k8s.io/kubelet/pkg/types"

	"skiff/cluster/layout"
	"skiff/cluster/node"
)

// endpoints are where another container runtime than the built-in one listens.
type endpoints struct{ runtime, images string }

// externalRuntime finds the runtime that a node is to use: that of the kubelet's
// configuration, else of the registration's criSocket. Empty is the built-in one.
func externalRuntime(l layout.Layout, c *node.Config, conf *kubeletv1beta1.KubeletConfiguration) endpoints {
	own := "unix://" + l.CRISocket()
	e := endpoints{runtime: cmp.Or(conf.ContainerRuntimeEndpoint, c.Registration.CRISocket)}
	if e.runtime == "" || e.runtime == own {
		return endpoints{}
	}
	e.images = cmp.Or(conf.ImageServiceEndpoint, e.runtime)
	return e
}

const (
	// connectPatience is how long one try to reach a runtime may take.
	connectPatience = 10 * time.Second
	// callPatience is how long a runtime may take to answer what takes no time by
	// nature; upstream's default.
	callPatience = 2 * time.Minute
	// connectPause is between two tries.
	connectPause = 2 * time.Second
)

// connect reaches a container runtime, and waits for one that does not run yet: a
// node's other parts need not.
func (e endpoints) connect(ctx context.Context) (internalapi.RuntimeService, internalapi.ImageManagerService, error) {
	for told := false; ; told = true {
		runtime, images, err := e.dial(ctx)
		if err == nil {
			return runtime, images, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if !told {
			slog.Error("the container runtime cannot be reached; it is tried again", "endpoint", e.runtime, "images", e.images, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(connectPause):
		}
	}
}

func (e endpoints) dial(ctx context.Context) (internalapi.RuntimeService, internalapi.ImageManagerService, error) {
	try, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	runtime, err := criclient.NewRemoteRuntimeServiceBuilder().WithEndpoint(e.runtime).WithConnectionTimeout(callPatience).Build(try)
	if err != nil {
		return nil, nil, fmt.Errorf("container runtime: %w", err)
	}
	images, err := criclient.NewRemoteImageServiceBuilder().WithEndpoint(e.images).WithConnectionTimeout(callPatience).Build(try)
	if err != nil {
		// The next try makes both anew.
		_ = runtime.Close(ctx)
		return nil, nil, fmt.Errorf("image service: %w", err)
	}
	return runtime, images, nil
}

// removePods ends and removes all pods of another runtime than skiff's own, which
// would keep them.
func (e endpoints) removePods(ctx context.Context) error {
	if e == (endpoints{}) {
		return nil
	}
	runtime, _, err := e.dial(ctx)
	if err != nil {
		return err
	}
	defer runtime.Close(ctx)
	list, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	var errs []error
	for _, sb := range list {
		if sb.Labels[kubelettypes.KubernetesPodUIDLabel] == "" {
			continue // not a kubelet's
		}
		err := runtime.StopPodSandbox(ctx, sb.Id)
		if err == nil {
			err = runtime.RemovePodSandbox(ctx, sb.Id)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove pod %s/%s: %w", sb.GetMetadata().GetNamespace(), sb.GetMetadata().GetName(), err))
		}
	}
	return errors.Join(errs...)
}
