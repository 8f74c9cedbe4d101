package logs

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
)

// Rotator keeps the logs of running containers below a size.
type Rotator struct {
	Runtime internalapi.RuntimeService
	// MaxSize of a log in bytes; MaxFiles of a container, the current included.
	MaxSize  int64
	MaxFiles int
	Interval time.Duration
}

// Run looks at the logs again and again until the context ends.
func (r *Rotator) Run(ctx context.Context) error {
	if r.MaxSize < 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(r.Interval)
	defer ticker.Stop()
	for {
		if err := r.Rotate(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Rotating container logs failed")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Rotate looks at every running container's log once.
func (r *Rotator) Rotate(ctx context.Context) error {
	list, err := r.Runtime.ListContainers(ctx, &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	for _, c := range list {
		resp, err := r.Runtime.ContainerStatus(ctx, c.Id, false)
		if err != nil || resp.GetStatus().GetLogPath() == "" {
			continue
		}
		path := resp.GetStatus().GetLogPath()
		info, err := os.Lstat(path)
		if errors.Is(err, os.ErrNotExist) {
			// An earlier rotation got as far as the renaming.
			errs = append(errs, r.Runtime.ReopenContainerLog(ctx, c.Id))
			continue
		}
		if err == nil && !info.Mode().IsRegular() {
			// Something that a container may have put there: it is not read.
			err = os.Remove(path)
			errs = append(errs, err, r.Runtime.ReopenContainerLog(ctx, c.Id))
			continue
		}
		if err == nil && info.Size() >= r.MaxSize {
			err = r.rotate(ctx, c.Id, path)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *Rotator) rotate(ctx context.Context, id, path string) error {
	old, err := filepath.Glob(path + ".*")
	if err != nil {
		return err
	}
	var keep []string
	for _, f := range old {
		if strings.HasSuffix(f, ".tmp") {
			if err := os.Remove(f); err != nil {
				return err
			}
			continue
		}
		keep = append(keep, f)
	}
	sort.Strings(keep)
	// The current log and the one it becomes take two places.
	for len(keep) > max(r.MaxFiles-2, 0) {
		if err := os.Remove(keep[0]); err != nil {
			return err
		}
		keep = keep[1:]
	}
	for _, f := range keep {
		if !strings.HasSuffix(f, ".gz") {
			if err := compress(f); err != nil {
				return fmt.Errorf("compress log %s: %w", f, err)
			}
		}
	}
	rotated := path + "." + time.Now().Format("20060102-150405")
	if err := os.Rename(path, rotated); err != nil {
		return err
	}
	if err := r.Runtime.ReopenContainerLog(ctx, id); err != nil {
		return errors.Join(fmt.Errorf("reopen log of container %s: %w", id, err), os.Rename(rotated, path))
	}
	return nil
}

func compress(path string) (err error) {
	in, err := Open(path)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	defer func() { _ = in.Close() }()
	tmp := path + ".tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	err = errors.Join(err, z.Close(), out.Close())
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}
