// Package emptydir is scratch space that lives as long as its pod, on disk or
// in memory.
package emptydir

import (
	"context"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	helpers "k8s.io/component-helpers/resource"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/volume"
)

// Plugin implements volume.Plugin.
type Plugin struct {
	Mounter mount.Interface
	// Memory is the node's allocatable memory, the most that a memory volume
	// may hold; 0 means not known.
	Memory func() int64
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/empty-dir" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return r.Volume.EmptyDir != nil }

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(_ context.Context, r *volume.Request) (*volume.Mounted, error) {
	src := r.Volume.EmptyDir
	if err := os.MkdirAll(r.Dir, 0o750); err != nil {
		return nil, err
	}
	mounted, err := volume.MountPoint(p.Mounter, r.Dir)
	if err != nil {
		return nil, err
	}
	switch {
	case mounted, src.Medium == v1.StorageMediumDefault:
	case src.Medium == v1.StorageMediumMemory:
		var options []string
		if size := p.size(r); size > 0 {
			options = append(options, fmt.Sprintf("size=%d", size))
		}
		if err := volume.Memory(p.Mounter, r.Dir, options...); err != nil {
			return nil, err
		}
	default:
		page, ok := hugePage(src.Medium)
		if !ok {
			return nil, fmt.Errorf("unknown storage medium %q", src.Medium)
		}
		options := []string{}
		if page != "" {
			options = append(options, "pagesize="+page)
		}
		if err := p.Mounter.MountSensitiveWithoutSystemd("nodev", r.Dir, "hugetlbfs", options, nil); err != nil {
			return nil, err
		}
	}
	// Any user of the pod may write; the umask does not apply.
	mode := os.FileMode(0o777)
	if r.FSGroup() != nil {
		mode |= os.ModeSetgid
		if err := os.Chown(r.Dir, -1, int(*r.FSGroup())); err != nil {
			return nil, err
		}
	}
	return &volume.Mounted{Path: r.Dir}, os.Chmod(r.Dir, mode)
}

// size of a memory volume: the least of its limit, the pod's memory limit and
// the node's memory.
func (p *Plugin) size(r *volume.Request) int64 {
	var size int64
	if p.Memory != nil {
		size = p.Memory()
	}
	least := func(n int64) {
		if n > 0 && (size == 0 || n < size) {
			size = n
		}
	}
	if limits := helpers.PodLimits(r.Pod, helpers.PodResourcesOptions{}); limits != nil {
		all := true
		for i := range r.Pod.Spec.Containers {
			all = all && !r.Pod.Spec.Containers[i].Resources.Limits.Memory().IsZero()
		}
		if all {
			least(limits.Memory().Value())
		}
	}
	if q := r.Volume.EmptyDir.SizeLimit; q != nil {
		least(q.Value())
	}
	return size
}

func hugePage(medium v1.StorageMedium) (string, bool) {
	if medium == v1.StorageMediumHugePages {
		return "", true
	}
	text, ok := medium, len(medium) > len(v1.StorageMediumHugePagesPrefix)
	if !ok || medium[:len(v1.StorageMediumHugePagesPrefix)] != v1.StorageMediumHugePagesPrefix {
		return "", false
	}
	q, err := resource.ParseQuantity(string(text[len(v1.StorageMediumHugePagesPrefix):]))
	if err != nil {
		return "", false
	}
	return fmt.Sprint(q.Value()), true
}

// TearDown implements volume.Plugin.
func (p *Plugin) TearDown(_ context.Context, dir string) error {
	return volume.Discard(p.Mounter, dir)
}
