package cri

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// PodSandboxStatus implements RuntimeService.
func (r *Runtime) PodSandboxStatus(_ context.Context, id string, verbose bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	sb, err := r.sandbox(id)
	if err != nil {
		return nil, err
	}
	out := &runtimeapi.PodSandboxStatusResponse{Status: sb.status(), Timestamp: time.Now().UnixNano()}
	for _, c := range r.containersOf(sb.id) {
		out.ContainersStatuses = append(out.ContainersStatuses, c.status())
	}
	if verbose {
		out.Info = map[string]string{"info": "{\"netns\":" + strconv.Quote(sb.nsPath("net")) + "}"}
	}
	return out, nil
}

// ListPodSandbox implements RuntimeService.
func (r *Runtime) ListPodSandbox(_ context.Context, f *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	r.mu.Lock()
	all := make([]*sandbox, 0, len(r.sandboxes))
	for _, sb := range r.sandboxes {
		all = append(all, sb)
	}
	r.mu.Unlock()
	var out []*runtimeapi.PodSandbox
	for _, sb := range all {
		state, rec := sb.state(), sb.record()
		if f.GetId() != "" && !strings.HasPrefix(sb.id, f.Id) || f.GetState() != nil && f.State.State != state || !selects(f.GetLabelSelector(), sb.cfg.Labels) {
			continue
		}
		out = append(out, &runtimeapi.PodSandbox{
			Id: sb.id, Metadata: sb.cfg.Metadata, State: state, CreatedAt: rec.CreatedAt,
			Labels: sb.cfg.Labels, Annotations: sb.cfg.Annotations, RuntimeHandler: rec.Handler,
		})
	}
	slices.SortFunc(out, func(a, b *runtimeapi.PodSandbox) int { return cmp.Compare(a.CreatedAt, b.CreatedAt) })
	return out, nil
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}
