// Package projected lays several sources into one folder: ConfigMaps,
// Secrets, the pod's fields, service account tokens, trust bundles and the
// pod's certificates.
package projected

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/mount-utils"

	"skiff/kubelet/volumes/atomic"
	"skiff/kubelet/volumes/configmap"
	"skiff/kubelet/volumes/downwardapi"
	"skiff/kubelet/volumes/volume"
)

// Plugin implements volume.Plugin.
type Plugin struct {
	Mounter     mount.Interface
	Objects     volume.Objects
	Tokens      volume.Tokens
	Allocatable func() v1.ResourceList
	// TrustBundle returns the certificates of a bundle, or of all bundles of a
	// signer that the selector matches.
	TrustBundle func(ctx context.Context, src *v1.ClusterTrustBundleProjection) ([]byte, error)
	// Certificates returns the key and the certificates, as PEM, that a source
	// of the volume asks for, or why there are none yet.
	Certificates func(ctx context.Context, r *volume.Request, source int) (key, chain []byte, err error)
}

// Name implements volume.Plugin.
func (*Plugin) Name() string { return "kubernetes.io/projected" }

// Supports implements volume.Plugin.
func (*Plugin) Supports(r *volume.Request) bool { return r.Volume.Projected != nil }

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(ctx context.Context, r *volume.Request) (*volume.Mounted, error) {
	files, err := p.collect(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := volume.Memory(p.Mounter, r.Dir); err != nil {
		return nil, err
	}
	return &volume.Mounted{Path: r.Dir, ReadOnly: true}, atomic.Write(r.Dir, files, r.FSGroup())
}

func (p *Plugin) collect(ctx context.Context, r *volume.Request) (map[string]atomic.File, error) {
	src := r.Volume.Projected
	out := map[string]atomic.File{}
	var errs []error
	for i := range src.Sources {
		files, err := p.one(ctx, r, i)
		if err != nil {
			errs = append(errs, err)
		}
		for k, v := range files {
			out[k] = v
		}
	}
	return out, errors.Join(errs...)
}

func (p *Plugin) one(ctx context.Context, r *volume.Request, source int) (map[string]atomic.File, error) {
	s, mode := &r.Volume.Projected.Sources[source], r.Volume.Projected.DefaultMode
	switch {
	case s.Secret != nil:
		optional := s.Secret.Optional != nil && *s.Secret.Optional
		obj, err := p.Objects.Secret(ctx, r.Pod.Namespace, s.Secret.Name)
		if err != nil {
			if !apierrors.IsNotFound(err) || !optional {
				return nil, err
			}
			obj = &v1.Secret{}
		}
		return configmap.Project(s.Secret.Items, obj.Data, mode, optional, "secret")
	case s.ConfigMap != nil:
		optional := s.ConfigMap.Optional != nil && *s.ConfigMap.Optional
		obj, err := p.Objects.ConfigMap(ctx, r.Pod.Namespace, s.ConfigMap.Name)
		if err != nil {
			if !apierrors.IsNotFound(err) || !optional {
				return nil, err
			}
			obj = &v1.ConfigMap{}
		}
		return configmap.Files(s.ConfigMap.Items, obj, mode, optional)
	case s.DownwardAPI != nil:
		return downwardapi.Files(s.DownwardAPI.Items, r.Pod, mode, p.Allocatable())
	case s.ServiceAccountToken != nil:
		t := s.ServiceAccountToken
		token, err := p.Tokens.Token(ctx, r.Pod, t.Audience, t.ExpirationSeconds)
		if err != nil {
			return nil, fmt.Errorf("failed to fetch token: %w", err)
		}
		return map[string]atomic.File{t.Path: owned(r, []byte(token.Token), mode)}, nil
	case s.ClusterTrustBundle != nil:
		if p.TrustBundle == nil {
			return nil, errors.New("ClusterTrustBundle projection is not enabled")
		}
		data, err := p.TrustBundle(ctx, s.ClusterTrustBundle)
		if err != nil {
			return nil, err
		}
		return map[string]atomic.File{s.ClusterTrustBundle.Path: owned(r, data, mode)}, nil
	case s.PodCertificate != nil:
		if p.Certificates == nil {
			return nil, errors.New("PodCertificate projection is not enabled")
		}
		key, chain, err := p.Certificates(ctx, r, source)
		if err != nil {
			return nil, err
		}
		out := map[string]atomic.File{}
		put := func(path string, data []byte) {
			if path != "" {
				out[path] = owned(r, data, mode)
			}
		}
		put(s.PodCertificate.CredentialBundlePath, slices.Concat(key, chain))
		put(s.PodCertificate.KeyPath, key)
		put(s.PodCertificate.CertificateChainPath, chain)
		return out, nil
	}
	return nil, nil
}

// owned is a file that only the pod's own user may read, where the pod has one
// user, and its group, which the writer lets read what it gives it.
func owned(r *volume.Request, data []byte, mode *int32) atomic.File {
	f := atomic.File{Data: data, Mode: 0o644, Owner: onlyUser(r.Pod)}
	switch {
	case f.Owner != nil || r.FSGroup() != nil:
		f.Mode = 0o600
	case mode != nil:
		f.Mode = *mode
	}
	return f
}

// onlyUser is the user that all containers run as, if it is one and the same.
func onlyUser(pod *v1.Pod) *int64 {
	var user *int64
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			var own *int64
			if pod.Spec.SecurityContext != nil {
				own = pod.Spec.SecurityContext.RunAsUser
			}
			if sc := list[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				own = sc.RunAsUser
			}
			if own == nil || user != nil && *user != *own {
				return nil
			}
			user = own
		}
	}
	return user
}

// TearDown implements volume.Plugin.
func (p *Plugin) TearDown(_ context.Context, dir string) error {
	return volume.Discard(p.Mounter, dir)
}
