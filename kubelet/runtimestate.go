package kubelet

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"skiff/kubelet/nodestatus"
	"skiff/kubelet/status"
)

// runtimeState is what the runtime said about itself last.
type runtimeState struct {
	mu      sync.Mutex // guards what follows
	version *runtimeapi.VersionResponse
	status  *runtimeapi.StatusResponse
	err     error
}

func (s *runtimeState) name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version == nil {
		return "skiff"
	}
	return s.version.RuntimeName
}

func (s *runtimeState) versionText() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version == nil {
		return "unknown://Unknown"
	}
	return s.version.RuntimeName + "://" + s.version.RuntimeVersion
}

func (s *runtimeState) condition(kind string) (ok bool, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == nil {
		return false, "container runtime status check may not have completed yet"
	}
	for _, c := range s.status.GetStatus().GetConditions() {
		if c.Type == kind {
			return c.Status, fmt.Sprintf("%s=%v reason:%s message:%s", c.Type, c.Status, c.Reason, c.Message)
		}
	}
	return false, kind + "=false"
}

// networkError is why pods with a network of their own cannot start; "" when
// they can.
func (s *runtimeState) networkError() string {
	if ok, text := s.condition("NetworkReady"); !ok {
		return "container runtime network not ready: " + text
	}
	return ""
}

func (s *runtimeState) problems() []string {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return []string{fmt.Sprintf("container runtime is down: %v", err)}
	}
	var out []string
	if ok, text := s.condition("RuntimeReady"); !ok {
		out = append(out, "container runtime not ready: "+text)
	}
	if ok, text := s.condition("NetworkReady"); !ok {
		out = append(out, "container runtime network not ready: "+text)
	}
	return out
}

func (s *runtimeState) recursiveReadOnly(handler string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.status.GetRuntimeHandlers() {
		if h.Name == handler {
			return h.GetFeatures().GetRecursiveReadOnlyMounts()
		}
	}
	return false
}

func (s *runtimeState) handlers() ([]v1.NodeRuntimeHandler, *v1.NodeFeatures) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []v1.NodeRuntimeHandler
	for _, h := range s.status.GetRuntimeHandlers() {
		out = append(out, v1.NodeRuntimeHandler{Name: h.Name, Features: &v1.NodeRuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: ptr.To(h.GetFeatures().GetRecursiveReadOnlyMounts()),
			UserNamespaces:          ptr.To(h.GetFeatures().GetUserNamespaces()),
		}})
	}
	if f := s.status.GetFeatures(); f != nil {
		return out, &v1.NodeFeatures{SupplementalGroupsPolicy: ptr.To(f.SupplementalGroupsPolicy)}
	}
	return out, nil
}

// askRuntime notes how the runtime is, and tells whether that is well.
func (k *Kubelet) askRuntime(ctx context.Context) bool {
	s := &k.runtimeState
	version, err := k.cfg.Runtime.Version(ctx, "0.1.0")
	var st *runtimeapi.StatusResponse
	if err == nil {
		st, err = k.cfg.Runtime.Status(ctx, false)
	}
	before := len(s.problems())
	s.mu.Lock()
	s.err = err
	if err == nil {
		s.version, s.status = version, st
	}
	s.mu.Unlock()
	after := len(s.problems())
	if (before == 0) != (after == 0) {
		k.node.Poke()
	}
	return after == 0
}

// watchRuntime asks the runtime how it is; often until it is ready.
func (k *Kubelet) watchRuntime(ctx context.Context) error {
	for {
		wait := 5 * time.Second
		if !k.askRuntime(ctx) {
			wait = 200 * time.Millisecond
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// nodeState is the changing part of the node's status.
func (k *Kubelet) nodeState(ctx context.Context) nodestatus.State {
	s := nodestatus.State{RuntimeVersion: k.runtimeState.versionText(), NotReady: k.runtimeState.problems()}
	if err := k.watcher.Healthy(); err != nil && !strings.Contains(err.Error(), "yet to be successful") {
		s.NotReady = append(s.NotReady, "PLEG is not healthy: "+err.Error())
	}
	if why := k.unrestored.Load(); why != nil {
		s.NotReady = append(s.NotReady, *why)
	}
	if k.shuttingDown() {
		s.NotReady = append(s.NotReady, "node is shutting down")
	}
	s.MemoryPressure, s.DiskPressure, s.PIDPressure = k.eviction.Pressure()
	s.Handlers, s.Features = k.runtimeState.handlers()
	s.Images = k.nodeImages(ctx)
	s.DeviceCapacity, s.DeviceAllocatable = k.devices.Capacity()
	s.VolumesInUse = k.csi.InUse()
	return s
}

// nodeImages are the largest images, as the scheduler wants to know them.
func (k *Kubelet) nodeImages(ctx context.Context) []v1.ContainerImage {
	list, err := k.cfg.Images.ListImages(ctx, nil)
	if err != nil {
		return nil
	}
	sortImages(list)
	limit := int(*k.cfg.Kubelet.NodeStatusMaxImages)
	var out []v1.ContainerImage
	for _, i := range list {
		if limit >= 0 && len(out) >= limit {
			break
		}
		names := append(append([]string(nil), i.RepoDigests...), i.RepoTags...)
		if len(names) > 5 {
			names = names[:5]
		}
		out = append(out, v1.ContainerImage{Names: names, SizeBytes: int64(i.Size)})
	}
	return out
}

func shutdownFailure() *status.Failure {
	return &status.Failure{Reason: "Terminated", Message: "Pod was terminated in response to imminent node shutdown.", Condition: &v1.PodCondition{
		Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet, Message: "Pod was terminated in response to imminent node shutdown.",
	}}
}
