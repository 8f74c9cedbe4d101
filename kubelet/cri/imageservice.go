package cri

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/cri/images"
)

func criImage(i *images.Image) *runtimeapi.Image {
	out := &runtimeapi.Image{Id: i.ID, RepoTags: i.Tags, RepoDigests: i.Digests, Size: uint64(i.Size), Pinned: i.Pinned, Spec: &runtimeapi.ImageSpec{Image: i.ID}}
	name, _, _ := strings.Cut(i.User, ":")
	if uid, err := strconv.ParseInt(name, 10, 64); err == nil {
		out.Uid = &runtimeapi.Int64Value{Value: uid}
	} else {
		out.Username = name
	}
	return out
}

// ListImages implements ImageManagerService.
func (r *Runtime) ListImages(_ context.Context, f *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	if name := f.GetImage().GetImage(); name != "" {
		i, err := r.images.Get(name)
		if errors.Is(err, images.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, coded(err)
		}
		return []*runtimeapi.Image{criImage(i)}, nil
	}
	list := r.images.List()
	out := make([]*runtimeapi.Image, 0, len(list))
	for _, i := range list {
		out = append(out, criImage(i))
	}
	return out, nil
}

// ImageStatus implements ImageManagerService; an image that is not there is no error.
func (r *Runtime) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, verbose bool) (*runtimeapi.ImageStatusResponse, error) {
	i, err := r.images.Get(spec.GetImage())
	if errors.Is(err, images.ErrNotFound) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, coded(err)
	}
	out := &runtimeapi.ImageStatusResponse{Image: criImage(i)}
	if verbose {
		if cf, err := r.images.ImageConfig(i); err == nil {
			if data, err := json.Marshal(map[string]any{"imageSpec": cf}); err == nil {
				out.Info = map[string]string{"info": string(data)}
			}
		}
	}
	return out, nil
}

// PullImage implements ImageManagerService.
func (r *Runtime) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	i, err := r.images.Pull(ctx, spec.GetImage(), images.Auth{
		Username: auth.GetUsername(), Password: auth.GetPassword(), Auth: auth.GetAuth(),
		IdentityToken: auth.GetIdentityToken(), RegistryToken: auth.GetRegistryToken(),
	}, nil)
	if err != nil {
		return "", coded(err)
	}
	return i.ID, nil
}

// RemoveImage implements ImageManagerService.
func (r *Runtime) RemoveImage(_ context.Context, spec *runtimeapi.ImageSpec) error {
	if err := r.images.Remove(spec.GetImage()); err != nil {
		return coded(err)
	}
	return coded(r.images.Sweep(r.layersInUse()))
}

// ImageFsInfo implements ImageManagerService.
func (r *Runtime) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	used, err := r.images.Usage()
	if err != nil {
		return nil, coded(err)
	}
	image := fsUsage(filepath.Join(r.cfg.StateDir, "images"), used)
	containers := fsUsage(r.containerRoot(), r.usage.diskOf("containers", r.containerRoot(), time.Now()).Usage)
	return &runtimeapi.ImageFsInfoResponse{
		ImageFilesystems: []*runtimeapi.FilesystemUsage{image}, ContainerFilesystems: []*runtimeapi.FilesystemUsage{containers},
	}, nil
}

// ImportImages implements imagearchive.Store.
func (r *Runtime) ImportImages(ctx context.Context, archive io.Reader, pinned bool) ([]string, error) {
	taken, err := r.images.Import(ctx, archive, images.ImportOptions{Pinned: pinned})
	return images.Names(taken), err
}

// ExportImages implements imagearchive.Store.
func (r *Runtime) ExportImages(w io.Writer, names []string) error {
	return r.images.Export(w, names...)
}
