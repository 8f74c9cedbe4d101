package images

import (
	"maps"
	"os"
	"path/filepath"
	"strings"

	"skiff/kubelet/diskusage"
)

// Usage is what the store takes on its disk. An unpacked layer never changes, so that
// each is walked only once: a node can hold a million files of images.
func (s *Store) Usage() (diskusage.Usage, error) {
	entries, err := os.ReadDir(s.LayerRoot())
	if err != nil {
		return diskusage.Usage{}, err
	}
	s.mu.Lock()
	known := s.used
	s.mu.Unlock()
	layers := make(map[string]diskusage.Usage, len(entries))
	var sum diskusage.Usage
	for _, e := range entries {
		use, ok := known[e.Name()]
		if !ok {
			use = diskusage.Of(filepath.Join(s.LayerRoot(), e.Name()))
		}
		// What has this prefix is being made or removed.
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			layers[e.Name()] = use
		}
		sum = sum.Add(use)
	}
	if !maps.Equal(known, layers) {
		s.mu.Lock()
		s.used = layers
		s.mu.Unlock()
	}
	for _, dir := range []string{"blobs", "ingest"} {
		sum = sum.Add(diskusage.Of(filepath.Join(s.cfg.Root, dir)))
	}
	return sum, nil
}
