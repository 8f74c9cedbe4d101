package cri

import (
	"fmt"
	"os"
	"path/filepath"

	"skiff/kubelet/cri/images"
	"skiff/kubelet/cri/shimapi"
)

// makeContainer makes a container's folder: its root, its OCI configuration and
// at the very end a record that says it is whole.
func (r *Runtime) makeContainer(c *container, image *images.Image, privilegedPod bool) error {
	if err := os.Mkdir(c.dir, 0o711); err != nil {
		return err
	}
	cf, err := r.images.ImageConfig(image)
	if err != nil {
		return err
	}
	if err := mountRoot(r.images, image, c.dir, c.sandbox.namespaces().GetUsernsOptions(), c.sandbox.nsPath("user")); err != nil {
		return err
	}
	imageMounts, err := r.mountImages(c)
	if err != nil {
		return err
	}
	target := 0
	if id := c.cfg.GetLinux().GetSecurityContext().GetNamespaceOptions().GetTargetId(); id != "" {
		t, err := r.container(id)
		if err != nil {
			return err
		}
		if t.sandbox != c.sandbox {
			return invalid("target container %q is of another pod", id)
		}
		if err := t.running(); err != nil {
			return invalid("target container %q: %s", id, err)
		}
		t.mu.Lock()
		target = t.pid
		t.mu.Unlock()
	}
	b := &specBuilder{runtime: r, c: c, sandbox: c.sandbox, image: cf, imageMounts: imageMounts, targetPid: target, privilegedPod: privilegedPod}
	spec, err := b.build()
	if err != nil {
		return err
	}
	if err := shimapi.WriteJSON(filepath.Join(c.dir, shimapi.ConfigFile), spec); err != nil {
		return err
	}
	return c.change(func(rec *containerRecord) {
		rec.Removing, rec.CgroupID, rec.User, rec.Stop = false, b.cgroup, b.user, b.stop
	})
}

// mountImages mounts the images that are volumes of the container and returns
// the host path of each mount by its place in the configuration.
func (r *Runtime) mountImages(c *container) (map[int]string, error) {
	out := make(map[int]string)
	for i, m := range c.cfg.Mounts {
		if m.GetImage().GetImage() == "" {
			continue
		}
		image, err := r.images.Get(m.Image.Image)
		if err != nil {
			return nil, fmt.Errorf("image volume at %s: %w", m.ContainerPath, err)
		}
		dir := filepath.Join(c.dir, imagesDir, fmt.Sprint(i))
		if err := mountImage(r.images, image, dir); err != nil {
			return nil, fmt.Errorf("image volume at %s: %w", m.ContainerPath, err)
		}
		c.mu.Lock()
		c.rec.Layers = append(c.rec.Layers, image.Layers...)
		c.mu.Unlock()
		host := filepath.Join(dir, "m")
		if m.ImageSubPath != "" {
			f, err := openDirIn(host, m.ImageSubPath)
			if err != nil {
				return nil, fmt.Errorf("image volume at %s: sub path %q: %w", m.ContainerPath, m.ImageSubPath, err)
			}
			host = f
		}
		out[i] = host
	}
	return out, nil
}
