package images

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations that tell an image's name in an OCI archive.
const (
	nameAnnotation    = "io.containerd.image.name"
	refNameAnnotation = "org.opencontainers.image.ref.name"
)

// ImportOptions say how images are taken from an archive.
type ImportOptions struct {
	// Pinned keeps the images from garbage collection.
	Pinned bool
}

// Import takes the images of an archive, as `docker save` or an OCI tool
// writes it, plain or compressed, into the store.
func (s *Store) Import(ctx context.Context, r io.Reader, opts ImportOptions) ([]*Image, error) {
	plain, err := decompress(r)
	if err != nil {
		return nil, fmt.Errorf("image archive: %w", err)
	}
	defer plain.Close()
	dir, err := os.MkdirTemp(filepath.Join(s.cfg.Root, "ingest"), "import-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	archive := filepath.Join(dir, "archive.tar")
	f, err := os.OpenFile(archive, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(f, io.LimitReader(plain, s.cfg.MaxLayerSize+1))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && n > s.cfg.MaxLayerSize {
		err = fmt.Errorf("%w: larger than %d bytes", ErrInvalid, s.cfg.MaxLayerSize)
	}
	if err != nil {
		return nil, fmt.Errorf("image archive: %w", err)
	}
	s.content.RLock()
	defer s.content.RUnlock()
	oci, err := unpackOCI(archive, filepath.Join(dir, "oci"))
	if err != nil {
		return nil, fmt.Errorf("image archive: %w", err)
	}
	if oci {
		return s.importOCI(ctx, filepath.Join(dir, "oci"), opts)
	}
	return s.importDocker(ctx, archive, opts)
}

// unpackOCI writes the files of an OCI layout below dir; false when the
// archive is none.
func unpackOCI(archive, dir string) (bool, error) {
	f, err := os.Open(archive)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	found := false
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return false, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		local := path.Clean(strings.TrimPrefix(h.Name, "./"))
		if h.Typeflag != tar.TypeReg || local != "index.json" && local != "oci-layout" && !strings.HasPrefix(local, "blobs/sha256/") {
			continue
		}
		found = found || local == "index.json"
		if err := root.MkdirAll(path.Dir(local), 0o700); err != nil {
			return false, err
		}
		out, err := root.OpenFile(local, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return false, err
		}
		_, err = io.Copy(out, tr)
		if cerr := out.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return false, err
		}
	}
}

func (s *Store) importOCI(ctx context.Context, dir string, opts ImportOptions) ([]*Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("image archive: %w: %w", ErrInvalid, err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("image archive: %w: %w", ErrInvalid, err)
	}
	var out []*Image
	for _, d := range m.Manifests {
		full := d.Annotations[nameAnnotation]
		if full == "" && strings.ContainsAny(d.Annotations[refNameAnnotation], "/:") {
			full = d.Annotations[refNameAnnotation]
		}
		read := func(digest string, limit int64) ([]byte, error) {
			h, err := v1.NewHash(digest)
			if err != nil {
				return nil, err
			}
			data, err := layout.Path(dir).Bytes(h)
			if err == nil && int64(len(data)) > limit {
				err = fmt.Errorf("%w: larger than %d bytes", ErrInvalid, limit)
			}
			return data, err
		}
		root, err := read(d.Digest.String(), maxManifest)
		if err != nil {
			return out, fmt.Errorf("image archive: manifest %s: %w", d.Digest, err)
		}
		image, err := s.importManifest(ctx, full, d.Digest.String(), root, d.MediaType, read, opts, func(h v1.Hash) (io.ReadCloser, error) {
			return layout.Path(dir).Blob(h)
		})
		if err != nil {
			return out, err
		}
		out = append(out, image)
	}
	return out, nil
}

func (s *Store) importDocker(ctx context.Context, archive string, opts ImportOptions) ([]*Image, error) {
	opener := func() (io.ReadCloser, error) { return os.Open(archive) }
	list, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, fmt.Errorf("image archive: %w: it has neither index.json nor manifest.json: %w", ErrInvalid, err)
	}
	var out []*Image
	for _, entry := range list {
		for _, tag := range entry.RepoTags {
			t, err := name.NewTag(tag)
			if err != nil {
				return out, fmt.Errorf("image archive: name %q: %w", tag, ErrInvalid)
			}
			image, err := tarball.Image(opener, &t)
			if err != nil {
				return out, fmt.Errorf("image archive: %s: %w", tag, err)
			}
			got, err := s.importImage(ctx, fullName(t), image, opts)
			if err != nil {
				return out, err
			}
			out = append(out, got)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("image archive: %w: no image in it has a name", ErrInvalid)
	}
	return out, nil
}

func (s *Store) importImage(ctx context.Context, full string, image v1.Image, opts ImportOptions) (*Image, error) {
	raw, err := image.RawManifest()
	if err != nil {
		return nil, err
	}
	media, err := image.MediaType()
	if err != nil {
		return nil, err
	}
	none := func(digest string, _ int64) ([]byte, error) {
		return nil, fmt.Errorf("manifest %s: %w", digest, ErrNotFound)
	}
	return s.importManifest(ctx, full, digestOf(raw), raw, media, none, opts, func(h v1.Hash) (io.ReadCloser, error) {
		if cfg, err := image.ConfigName(); err == nil && cfg == h {
			data, err := image.RawConfigFile()
			return io.NopCloser(strings.NewReader(string(data))), err
		}
		l, err := image.LayerByDigest(h)
		if err != nil {
			return nil, err
		}
		return l.Compressed()
	})
}

// importManifest stores the blobs that a manifest names and then the image.
func (s *Store) importManifest(ctx context.Context, full, digest string, data []byte, media types.MediaType, read func(string, int64) ([]byte, error), opts ImportOptions, open func(v1.Hash) (io.ReadCloser, error)) (*Image, error) {
	a := &addition{root: digest, rootData: data, rootType: media, manifest: read, pinned: opts.Pinned}
	if full != "" {
		r, err := parse(full)
		if err != nil {
			return nil, err
		}
		a.name, a.repository = fullName(r), repository(r.Context())
	}
	manifest := data
	if media.IsIndex() {
		var index v1.IndexManifest
		if err := json.Unmarshal(data, &index); err != nil {
			return nil, fmt.Errorf("index %s: %w: %w", digest, ErrInvalid, err)
		}
		d, err := choose(&index, s.cfg.Platform)
		if err != nil {
			return nil, err
		}
		if manifest, err = read(d.Digest.String(), maxManifest); err != nil {
			return nil, err
		}
	}
	var m v1.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w: %w", digest, ErrInvalid, err)
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := s.takeBlob(d, open); err != nil {
			return nil, fmt.Errorf("image archive: %w", err)
		}
	}
	return s.add(ctx, a)
}

// takeBlob copies a blob of an archive into the store and verifies it.
func (s *Store) takeBlob(d v1.Descriptor, open func(v1.Hash) (io.ReadCloser, error)) (err error) {
	digest := d.Digest.String()
	if d.Digest.Algorithm != "sha256" || len(d.Digest.Hex) != 64 {
		return fmt.Errorf("blob %s: %w: not a sha256 digest", digest, ErrInvalid)
	}
	if s.hasBlob(digest) {
		return nil
	}
	src, err := open(d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	defer src.Close()
	f, err := os.CreateTemp(filepath.Join(s.cfg.Root, "ingest"), "blob-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, hash), src)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); got != digest {
		return fmt.Errorf("blob %s: %w: its content has the digest %s", digest, ErrInvalid, got)
	}
	return os.Rename(f.Name(), s.blobPath(digest))
}

// Export writes images as one OCI archive that `docker load` reads too.
func (s *Store) Export(w io.Writer, refs ...string) error {
	tw := tar.NewWriter(w)
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	type dockerEntry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var docker []dockerEntry
	written := make(map[string]bool)
	put := func(digest string) error {
		if written[digest] {
			return nil
		}
		written[digest] = true
		f, err := os.Open(s.blobPath(digest))
		if err != nil {
			return fmt.Errorf("blob %s: %w", digest, err)
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(tarHeader(blobName(digest), st.Size())); err != nil {
			return err
		}
		_, err = io.Copy(tw, f)
		return err
	}
	for _, ref := range refs {
		image, err := s.Get(ref)
		if err != nil {
			return err
		}
		for _, digest := range slices.Concat(image.Blobs, []string{image.ID, image.Manifest}) {
			if err := put(digest); err != nil {
				return err
			}
		}
		data, err := os.ReadFile(s.blobPath(image.Manifest))
		if err != nil {
			return err
		}
		hash, err := v1.NewHash(image.Manifest)
		if err != nil {
			return err
		}
		var m v1.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		media := m.MediaType
		if media == "" {
			media = types.OCIManifestSchema1
		}
		names := image.Tags
		if len(names) == 0 {
			names = []string{""}
		}
		for _, full := range names {
			d := v1.Descriptor{MediaType: media, Size: int64(len(data)), Digest: hash, Platform: &s.cfg.Platform}
			if full != "" {
				d.Annotations = map[string]string{nameAnnotation: full, refNameAnnotation: full}
			}
			index.Manifests = append(index.Manifests, d)
		}
		entry := dockerEntry{Config: blobName(image.ID), RepoTags: image.Tags}
		for _, b := range image.Blobs {
			entry.Layers = append(entry.Layers, blobName(b))
		}
		docker = append(docker, entry)
	}
	for _, f := range []struct {
		name string
		v    any
	}{{"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}}, {"index.json", index}, {"manifest.json", docker}} {
		data, err := json.Marshal(f.v)
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(tarHeader(f.name, int64(len(data)))); err != nil {
			return err
		}
		if _, err := tw.Write(data); err != nil {
			return err
		}
	}
	return tw.Close()
}

func blobName(digest string) string { return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:") }

func tarHeader(name string, size int64) *tar.Header {
	return &tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
}
