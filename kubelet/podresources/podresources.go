// Package podresources tells monitoring agents of the node, over a socket, which
// container has which devices, CPUs and memory.
package podresources

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/flowcontrol"
	podresourcesapi "k8s.io/kubelet/pkg/apis/podresources/v1"

	"skiff/kubelet/pluginwatch"
)

// How many calls a second are answered.
const (
	callsPerSecond = 100
	callBurst      = 10
)

// Config configures a Server.
type Config struct {
	// Socket is where it serves: /var/lib/kubelet/pod-resources/kubelet.sock.
	Socket string
	// Pods are those that hold resources.
	Pods func() []*v1.Pod
	// Container is what a container has, without its name.
	Container func(*v1.Pod, *v1.Container) *podresourcesapi.ContainerResources
	// Allocatable is what there is to give out.
	Allocatable func() *podresourcesapi.AllocatableResourcesResponse
}

// Server answers.
type Server struct {
	podresourcesapi.UnimplementedPodResourcesListerServer
	cfg Config
}

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	if !filepath.IsAbs(cfg.Socket) || cfg.Pods == nil || cfg.Container == nil || cfg.Allocatable == nil {
		return nil, errors.New("podresources: Socket, an absolute path, Pods, Container and Allocatable are required")
	}
	return &Server{cfg: cfg}, nil
}

// Run serves until the context ends.
func (s *Server) Run(ctx context.Context) error {
	listener, err := pluginwatch.Listen(s.cfg.Socket)
	if err != nil {
		return err
	}
	limit := flowcontrol.NewTokenBucketRateLimiter(callsPerSecond, callBurst)
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, answer grpc.UnaryHandler) (any, error) {
		if !limit.TryAccept() {
			return nil, status.Error(codes.ResourceExhausted, "rejected by rate limit")
		}
		return answer(ctx, in)
	}))
	podresourcesapi.RegisterPodResourcesListerServer(server, s)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// List implements the service.
func (s *Server) List(context.Context, *podresourcesapi.ListPodResourcesRequest) (*podresourcesapi.ListPodResourcesResponse, error) {
	out := &podresourcesapi.ListPodResourcesResponse{}
	for _, pod := range s.cfg.Pods() {
		out.PodResources = append(out.PodResources, s.describe(pod))
	}
	return out, nil
}

// Get implements the service.
func (s *Server) Get(_ context.Context, r *podresourcesapi.GetPodResourcesRequest) (*podresourcesapi.GetPodResourcesResponse, error) {
	for _, pod := range s.cfg.Pods() {
		if pod.Name == r.PodName && pod.Namespace == r.PodNamespace {
			return &podresourcesapi.GetPodResourcesResponse{PodResources: s.describe(pod)}, nil
		}
	}
	return nil, fmt.Errorf("pod %s in namespace %s not found", r.PodName, r.PodNamespace)
}

// GetAllocatableResources implements the service.
func (s *Server) GetAllocatableResources(context.Context, *podresourcesapi.AllocatableResourcesRequest) (*podresourcesapi.AllocatableResourcesResponse, error) {
	return s.cfg.Allocatable(), nil
}

// describe tells of the containers that run side by side: sidecars and the main
// ones.
func (s *Server) describe(pod *v1.Pod) *podresourcesapi.PodResources {
	out := &podresourcesapi.PodResources{Name: pod.Name, Namespace: pod.Namespace}
	add := func(c *v1.Container) {
		r := s.cfg.Container(pod, c)
		r.Name = c.Name
		out.Containers = append(out.Containers, r)
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	return out
}
