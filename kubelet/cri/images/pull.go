package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// Auth is the credentials of one pull; the zero value is none.
type Auth struct {
	Username, Password string
	// Auth is base64 of username:password.
	Auth          string
	IdentityToken string
	RegistryToken string
}

func (a Auth) authenticator() authn.Authenticator {
	if a == (Auth{}) {
		return nil
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: a.Username, Password: a.Password, Auth: a.Auth,
		IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	})
}

// Progress tells how far a pull has come.
type Progress struct {
	Image       string
	Done, Total int64 // bytes
}

const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxLayers   = 256
)

// Pull brings an image into the store and returns it. Pulls of the same image
// with the same credentials at the same time are one pull.
func (s *Store) Pull(ctx context.Context, ref string, auth Auth, progress func(Progress)) (*Image, error) {
	r, err := parse(ref)
	if err != nil {
		return nil, err
	}
	full := fullName(r)
	key, err := json.Marshal([]any{full, auth})
	if err != nil {
		return nil, err
	}
	image, err := s.pulls.do(ctx, string(key), func(shared context.Context) (*Image, error) {
		return s.pull(shared, r, full, auth, progress)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, fmt.Errorf("failed to pull and unpack image %q: %w", full, err)
	}
	return image, nil
}

func (s *Store) pull(ctx context.Context, r name.Reference, full string, auth Auth, progress func(Progress)) (*Image, error) {
	registries, err := LoadRegistries(s.cfg.Registries)
	if err != nil {
		return nil, err
	}
	host := registryHost(r.Context())
	var errs []error
	for _, e := range registries.endpoints(host, r.Context().RepositoryStr()) {
		image, err := s.pullFrom(ctx, e, r, full, auth, progress)
		if err == nil {
			return image, nil
		}
		errs = append(errs, err)
		var gone *elsewhere
		if ctx.Err() != nil || !errors.As(err, &gone) {
			// The image is there and is of no use; the same is nowhere better.
			return nil, err
		}
	}
	// The registry's own answer is what a user can act on; the mirrors' come after.
	slices.Reverse(errs)
	if len(errs) == 1 {
		return nil, errs[0]
	}
	texts := make([]string, 0, len(errs)-1)
	for _, e := range errs[1:] {
		texts = append(texts, e.Error())
	}
	return nil, fmt.Errorf("%w (mirrors: %s)", errs[0], strings.Join(texts, "; "))
}

// elsewhere is a failure after which the next endpoint may do better.
type elsewhere struct{ error }

func (e *elsewhere) Unwrap() error { return e.error }

func (s *Store) pullFrom(ctx context.Context, e *endpoint, r name.Reference, full string, auth Auth, progress func(Progress)) (*Image, error) {
	resolveError := func(err error) error {
		return &elsewhere{fmt.Errorf("failed to resolve reference %q: %w", full, classify(full, err))}
	}
	opts := []name.Option{name.WeakValidation}
	if e.scheme == "http" {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(e.host+"/"+e.repository, opts...)
	if err != nil {
		return nil, resolveError(err)
	}
	base, err := e.transport(s.cfg.Stall)
	if err != nil {
		return nil, err
	}
	if c, ok := base.(*endpointTransport); ok {
		defer c.base.CloseIdleConnections()
	}
	rt, err := transport.NewWithContext(ctx, repo.Registry, e.authenticator(auth.authenticator()), transport.NewRetry(patient{base}), []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, resolveError(err)
	}
	var asked name.Reference = repo.Tag(r.Identifier())
	if _, ok := r.(name.Digest); ok {
		asked = repo.Digest(r.Identifier())
	}
	// What is read whole is small: it may take no longer than a few silences.
	resolve, cancel := context.WithTimeoutCause(ctx, 5*s.cfg.Stall, fmt.Errorf("the registry did not answer whole within %s", 5*s.cfg.Stall))
	defer cancel()
	got, err := remote.Get(asked, remote.WithContext(resolve), remote.WithTransport(rt), remote.WithPlatform(s.cfg.Platform))
	if err != nil {
		if ctx.Err() == nil && resolve.Err() != nil {
			err = context.Cause(resolve)
		}
		return nil, resolveError(err)
	}
	src := &source{
		stall:  s.cfg.Stall,
		client: &http.Client{Transport: rt},
		base:   fmt.Sprintf("%s://%s/v2/%s/blobs/", e.scheme, e.host, e.repository),
	}
	get := func(digest string, limit int64) ([]byte, error) {
		d, err := remote.Get(repo.Digest(digest), remote.WithContext(ctx), remote.WithTransport(rt))
		if err != nil {
			return nil, &elsewhere{classify(full, err)}
		}
		if int64(len(d.Manifest)) > limit {
			return nil, fmt.Errorf("manifest %s: %w: larger than %d bytes", digest, ErrInvalid, limit)
		}
		return d.Manifest, nil
	}
	s.content.RLock()
	defer s.content.RUnlock()
	return s.add(ctx, &addition{
		name: full, repository: repository(r.Context()), root: got.Digest.String(), rootData: got.Manifest, rootType: got.MediaType,
		manifest: get, source: src, progress: progress,
	})
}

// classify gives a registry's refusal the words that containerd's users know.
func classify(full string, err error) error {
	var t *transport.Error
	if errors.As(err, &t) {
		switch t.StatusCode {
		case http.StatusNotFound:
			return fmt.Errorf("%s: %w", full, ErrNotFound)
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("pull access denied, repository does not exist or may require authorization: %w: %w", ErrUnauthorized, err)
		}
	}
	return err
}

// addition is an image on its way into the store.
type addition struct {
	name, repository string
	root             string // digest of what the name stands for
	rootData         []byte
	rootType         types.MediaType
	manifest         func(digest string, limit int64) ([]byte, error)
	source           *source // nil when the blobs are in the store
	progress         func(Progress)
	pinned           bool
}

func (s *Store) add(ctx context.Context, a *addition) (*Image, error) {
	manifestDigest, manifestData := a.root, a.rootData
	if a.rootType.IsIndex() {
		var index v1.IndexManifest
		if err := json.Unmarshal(a.rootData, &index); err != nil {
			return nil, fmt.Errorf("index %s: %w: %w", a.root, ErrInvalid, err)
		}
		d, err := choose(&index, s.cfg.Platform)
		if err != nil {
			return nil, err
		}
		manifestDigest = d.Digest.String()
		if manifestData, err = a.manifest(manifestDigest, maxManifest); err != nil {
			return nil, err
		}
		if got := digestOf(manifestData); got != manifestDigest {
			return nil, fmt.Errorf("manifest %s: %w: its content has the digest %s", manifestDigest, ErrInvalid, got)
		}
	}
	if got := digestOf(a.rootData); got != a.root {
		return nil, fmt.Errorf("manifest %s: %w: its content has the digest %s", a.root, ErrInvalid, got)
	}
	var m v1.Manifest
	if err := json.Unmarshal(manifestData, &m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w: %w", manifestDigest, ErrInvalid, err)
	}
	switch {
	case m.SchemaVersion != 2:
		return nil, fmt.Errorf("manifest %s: %w: schema version %d; push the image again with a current tool", manifestDigest, ErrInvalid, m.SchemaVersion)
	case len(m.Layers) > maxLayers:
		return nil, fmt.Errorf("manifest %s: %w: %d layers, at most %d can be stacked", manifestDigest, ErrInvalid, len(m.Layers), maxLayers)
	case m.Config.Size > maxConfig:
		return nil, fmt.Errorf("manifest %s: %w: configuration of %d bytes", manifestDigest, ErrInvalid, m.Config.Size)
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if d.Digest.Algorithm != "sha256" || len(d.Digest.Hex) != 64 || d.Size < 0 {
			return nil, fmt.Errorf("manifest %s: %w: descriptor %s of %d bytes", manifestDigest, ErrInvalid, d.Digest, d.Size)
		}
	}
	if err := s.blob(ctx, a, m.Config, nil); err != nil {
		return nil, err
	}
	image := &Image{ID: m.Config.Digest.String(), Manifest: manifestDigest, Size: m.Config.Size, Pinned: a.pinned || slices.Contains(s.cfg.Pinned, a.name)}
	cf, err := s.ImageConfig(image)
	if err != nil {
		return nil, err
	}
	image.User = cf.Config.User
	if p := s.cfg.Platform; cf.OS != "" && cf.OS != p.OS || cf.Architecture != "" && cf.Architecture != p.Architecture {
		return nil, fmt.Errorf("no match for platform in manifest: %w: the image is for %s/%s, this machine is %s/%s", ErrNotFound, cf.OS, cf.Architecture, p.OS, p.Architecture)
	}
	if len(cf.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("manifest %s: %w: %d layers, but the configuration names %d", manifestDigest, ErrInvalid, len(m.Layers), len(cf.RootFS.DiffIDs))
	}
	if err := s.addLayers(ctx, a, image, m.Layers, cf.RootFS.DiffIDs); err != nil {
		return nil, err
	}
	if err := s.putBlob(manifestDigest, manifestData); err != nil {
		return nil, err
	}
	if err := s.putBlob(a.root, a.rootData); err != nil {
		return nil, err
	}
	return s.name(image, a)
}

func (s *Store) addLayers(ctx context.Context, a *addition, image *Image, layers []v1.Descriptor, diffIDs []v1.Hash) error {
	var total, done atomic.Int64
	for i, d := range layers {
		if diffIDs[i].Algorithm != "sha256" || len(diffIDs[i].Hex) != 64 {
			return fmt.Errorf("image %s: %w: layer digest %s", image.ID, ErrInvalid, diffIDs[i])
		}
		image.Blobs = append(image.Blobs, d.Digest.String())
		image.Layers = append(image.Layers, diffIDs[i].String())
		image.Size += d.Size
		total.Add(d.Size)
	}
	report := func(n int64) {
		if now := done.Add(n); a.progress != nil {
			a.progress(Progress{Image: a.name, Done: now, Total: total.Load()})
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(s.cfg.ParallelDownloads)
	for i, d := range layers {
		group.Go(func() error {
			if !s.hasBlob(d.Digest.String()) {
				if err := s.blob(gctx, a, d, report); err != nil {
					return err
				}
			} else {
				report(d.Size)
			}
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			digest := image.Layers[i]
			_, err, _ := s.layers.Do(digest, func() (any, error) {
				if s.hasLayer(digest) {
					return nil, nil
				}
				return nil, s.unpackBlob(d.Digest.String(), digest)
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settle(image.Layers)
}

// blob brings one blob into the store; the same blob is fetched once at a time. Who
// waits for another pull's fetch has it when that succeeds, and else fetches it: the
// other's credentials or its registry may be to blame.
func (s *Store) blob(ctx context.Context, a *addition, d v1.Descriptor, progress func(int64)) error {
	digest := d.Digest.String()
	if s.hasBlob(digest) {
		return nil
	}
	if a.source == nil {
		return fmt.Errorf("blob %s: %w in the archive", digest, ErrNotFound)
	}
	done, err := s.fetches.take(ctx, digest)
	if err != nil {
		return err
	}
	defer done()
	if err = s.fetch(ctx, a.source, digest, d.Size, progress); err == nil {
		return nil
	}
	err = fmt.Errorf("failed to copy: %w", classify(a.name, err))
	if disk := (*diskError)(nil); !errors.Is(err, ErrInvalid) && !errors.As(err, &disk) {
		err = &elsewhere{err}
	}
	return err
}

// name puts an image into the index under its name.
func (s *Store) name(image *Image, a *addition) (*Image, error) {
	digestName := a.repository + "@" + a.root
	var out *Image
	err := s.change(func(images map[string]*Image) {
		next := *image
		if old := images[image.ID]; old != nil {
			next.Tags, next.Digests = slices.Clone(old.Tags), slices.Clone(old.Digests)
			next.Pinned = next.Pinned || old.Pinned
		}
		if a.name != "" && !strings.Contains(a.name, "@") && !slices.Contains(next.Tags, a.name) {
			next.Tags = append(next.Tags, a.name)
		}
		if a.repository != "" && !slices.Contains(next.Digests, digestName) {
			next.Digests = append(next.Digests, digestName)
		}
		// A tag that has moved is this image's alone.
		for id, other := range images {
			if id == image.ID || !slices.Contains(other.Tags, a.name) && !slices.Contains(other.Digests, digestName) {
				continue
			}
			stripped := *other
			stripped.Tags = without(other.Tags, a.name)
			stripped.Digests = without(other.Digests, digestName)
			images[id] = &stripped
		}
		images[image.ID] = &next
		out = &next
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func without(list []string, drop string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == drop })
}

// choose picks the manifest for a platform from an index.
func choose(index *v1.IndexManifest, want v1.Platform) (*v1.Descriptor, error) {
	var offered []string
	for i, d := range index.Manifests {
		if d.MediaType != "" && !d.MediaType.IsImage() {
			continue
		}
		p := d.Platform
		if p == nil || p.OS == want.OS && p.Architecture == want.Architecture && fits(p.Variant, want.Variant) {
			return &index.Manifests[i], nil
		}
		offered = append(offered, p.OS+"/"+p.Architecture)
	}
	return nil, fmt.Errorf("no match for platform in manifest: %w: want %s/%s, have %s", ErrNotFound, want.OS, want.Architecture, strings.Join(offered, ", "))
}

// fits takes arm64's v8, which is the only one, and no variant for any.
func fits(offered, want string) bool {
	return offered == "" || want == "" || offered == want
}
