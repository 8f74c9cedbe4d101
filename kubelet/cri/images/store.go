package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/singleflight"

	"skiff/kubelet/cri/shimapi"
	"skiff/kubelet/diskusage"
)

// Config configures a Store.
type Config struct {
	// Root is the folder of the store.
	Root string
	// Registries is the path of registries.yaml; a missing file means no mirrors.
	// It is read at every pull.
	Registries string
	// Platform of the images to take. Default: this machine's.
	Platform v1.Platform
	// MaxLayerSize bounds a layer's uncompressed size in bytes. Default 64 GiB.
	MaxLayerSize int64
	// ParallelDownloads bounds the layers of one image that are fetched and
	// unpacked at a time. Default 3.
	ParallelDownloads int
	// Stall is how long a registry may send nothing. Default one minute.
	Stall time.Duration
	// RetryPause is the time after a first failed try of a download; it grows with
	// each. Default one second.
	RetryPause time.Duration
	// Pinned names images that are never offered to garbage collection.
	Pinned []string
}

// Image is one image of the store.
type Image struct {
	// ID is the digest of the image's configuration.
	ID string `json:"id"`
	// Manifest is the digest of the platform's manifest.
	Manifest string `json:"manifest"`
	// Tags and Digests are its names: with a tag, and with the digest that the
	// registry told.
	Tags    []string `json:"tags,omitempty"`
	Digests []string `json:"digests,omitempty"`
	// Layers are the uncompressed digests from the lowest up; Blobs the digests
	// as pulled.
	Layers []string `json:"layers"`
	Blobs  []string `json:"blobs"`
	// Size is what the compressed layers and the configuration take.
	Size   int64  `json:"size"`
	User   string `json:"user,omitempty"`
	Pinned bool   `json:"pinned,omitempty"`
}

// Name is what a person calls the image: its first tag, or else its first
// digest, or its ID.
func (i *Image) Name() string {
	for _, names := range [][]string{i.Tags, i.Digests} {
		if len(names) > 0 {
			return names[0]
		}
	}
	return i.ID
}

// Names are what people call images, each once: an image has all its tags, or else the
// one name that it has.
func Names(list []*Image) []string {
	var out []string
	for _, i := range list {
		names := i.Tags
		if len(names) == 0 {
			names = []string{i.Name()}
		}
		for _, n := range names {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// Store is the image store. Its methods may run at the same time.
type Store struct {
	cfg     Config
	pulls   flights            // by reference and credentials
	fetches turns              // of blobs, by digest
	layers  singleflight.Group // that are unpacked, by digest

	// content is held for reading while an image is being added, for writing
	// while content that no image names is swept away.
	content sync.RWMutex

	mu     sync.Mutex
	images map[string]*Image // by ID; guarded by mu. Values are replaced, never changed.
	// used is what each unpacked layer takes, by its folder; guarded by mu and replaced, never changed.
	used map[string]diskusage.Usage
}

// New opens the store, making its folders where they are missing.
func New(cfg Config) (*Store, error) {
	if cfg.Root == "" || !filepath.IsAbs(cfg.Root) {
		return nil, fmt.Errorf("images: Root %q: want an absolute path", cfg.Root)
	}
	if cfg.MaxLayerSize == 0 {
		cfg.MaxLayerSize = 64 << 30
	}
	if cfg.ParallelDownloads <= 0 {
		cfg.ParallelDownloads = 3
	}
	if cfg.Stall <= 0 {
		cfg.Stall = time.Minute
	}
	if cfg.RetryPause <= 0 {
		cfg.RetryPause = time.Second
	}
	if cfg.Platform.OS == "" {
		cfg.Platform = v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	s := &Store{cfg: cfg, images: make(map[string]*Image)}
	for _, dir := range []string{"blobs/sha256", "layers", "ingest"} {
		if err := os.MkdirAll(filepath.Join(cfg.Root, dir), 0o700); err != nil {
			return nil, fmt.Errorf("images: %w", err)
		}
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("images: %w", err)
	}
	return s, nil
}

func (s *Store) indexPath() string { return filepath.Join(s.cfg.Root, "images.json") }

func (s *Store) load() error {
	var list []*Image
	err := shimapi.ReadJSON(s.indexPath(), &list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; remove the file to start with no images", err)
	}
	for _, i := range list {
		s.images[i.ID] = i
	}
	// Half-made layers are named so; nothing of them can be used again.
	entries, err := os.ReadDir(filepath.Join(s.cfg.Root, "layers"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.RemoveAll(filepath.Join(s.cfg.Root, "layers", e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// save writes the index. The caller holds mu.
func (s *Store) save() error {
	list := make([]*Image, 0, len(s.images))
	for _, i := range s.images {
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b *Image) int { return strings.Compare(a.ID, b.ID) })
	return shimapi.WriteJSON(s.indexPath(), list)
}

// change replaces images in the index and writes it; on failure nothing changes.
func (s *Store) change(edit func(images map[string]*Image)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := make(map[string]*Image, len(s.images))
	for id, i := range s.images {
		before[id] = i
	}
	edit(s.images)
	if err := s.save(); err != nil {
		s.images = before
		return err
	}
	return nil
}

// List returns all images in order of their IDs. The values are the store's
// own and must not be changed.
func (s *Store) List() []*Image {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*Image, 0, len(s.images))
	for _, i := range s.images {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b *Image) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Get finds an image by ID (with or without its sha256: prefix) or by name.
// The value is the store's own and must not be changed.
func (s *Store) Get(ref string) (*Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(ref); i != nil {
		return i, nil
	}
	return nil, fmt.Errorf("image %q: %w", ref, ErrNotFound)
}

// find is Get. The caller holds mu.
func (s *Store) find(ref string) *Image {
	if i := s.images[ref]; i != nil {
		return i
	}
	if i := s.images["sha256:"+ref]; i != nil {
		return i
	}
	name, err := Normalize(ref)
	if err != nil {
		return nil
	}
	for _, i := range s.images {
		if slices.Contains(i.Tags, name) || slices.Contains(i.Digests, name) {
			return i
		}
	}
	return nil
}

// ImageConfig reads an image's configuration.
func (s *Store) ImageConfig(i *Image) (*v1.ConfigFile, error) {
	data, err := os.ReadFile(s.blobPath(i.ID))
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", i.ID, err)
	}
	var cf v1.ConfigFile
	if err := json.Unmarshal(data, &cf); err != nil {
		return nil, fmt.Errorf("image %s: configuration: %w", i.ID, err)
	}
	return &cf, nil
}

// LayerRoot is the folder that LayerNames are relative to.
func (s *Store) LayerRoot() string { return filepath.Join(s.cfg.Root, "layers") }

// LayerNames are an image's layers as folders below LayerRoot, from the top
// down, as overlayfs wants them. The names are short, since a mount's options
// must fit in a page.
func (s *Store) LayerNames(i *Image) []string {
	out := make([]string, 0, len(i.Layers))
	seen := make(map[string]bool, len(i.Layers))
	for n := len(i.Layers) - 1; n >= 0; n-- {
		// overlayfs refuses a folder that is named twice; only its topmost use counts.
		name := layerName(i.Layers[n]) + "/fs"
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	return out
}

// Remove drops an image, by ID or by any of its names, with all of its names,
// as CRI demands. A missing image is no error. Its content goes with the next
// Sweep.
func (s *Store) Remove(ref string) error {
	s.mu.Lock()
	found := s.find(ref)
	s.mu.Unlock()
	if found == nil {
		return nil
	}
	return s.change(func(images map[string]*Image) { delete(images, found.ID) })
}

// Sweep deletes the blobs and layers that no image and none of the given
// layers (uncompressed digests that containers stand on) need.
func (s *Store) Sweep(used []string) error {
	if !s.content.TryLock() {
		return nil // an image is being added; the next sweep finds the rest
	}
	defer s.content.Unlock()
	blobs, layers := make(map[string]bool), make(map[string]bool)
	for _, i := range s.List() {
		blobs[i.ID], blobs[i.Manifest] = true, true
		for _, d := range i.Digests {
			if _, digest, ok := strings.Cut(d, "@"); ok {
				blobs[digest] = true
			}
		}
		for _, b := range i.Blobs {
			blobs[b] = true
		}
		for _, l := range i.Layers {
			layers[layerName(l)] = true
		}
	}
	for _, l := range used {
		layers[layerName(l)] = true
	}
	var errs []error
	entries, err := os.ReadDir(filepath.Join(s.cfg.Root, "blobs/sha256"))
	errs = append(errs, err)
	for _, e := range entries {
		if !blobs["sha256:"+e.Name()] {
			errs = append(errs, os.Remove(filepath.Join(s.cfg.Root, "blobs/sha256", e.Name())))
		}
	}
	entries, err = os.ReadDir(s.LayerRoot())
	errs = append(errs, err)
	for _, e := range entries {
		if layers[e.Name()] {
			continue
		}
		// Renamed first, so that no one sees half a layer.
		dead := filepath.Join(s.LayerRoot(), tempPrefix+"rm-"+e.Name())
		if err := os.Rename(filepath.Join(s.LayerRoot(), e.Name()), dead); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, os.RemoveAll(dead))
	}
	return errors.Join(errs...)
}
