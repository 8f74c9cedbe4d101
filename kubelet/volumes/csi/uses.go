package csi

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// begin notes that a pod uses a volume, so that it is neither detached nor
// unstaged, and returns what is known of it.
func (p *Plugin) begin(t *target, attach bool) *publication {
	p.restore()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.volumes[t.key]
	if s == nil {
		s = &state{uses: map[use]*publication{}}
		p.volumes[t.key] = s
	}
	s.attached, s.block = attach && !t.ephemeral, t.block
	pub := s.uses[t.use()]
	if pub == nil {
		pub = &publication{}
		s.uses[t.use()] = pub
	}
	return pub
}

// last reports whether nobody but u uses the volume.
func (p *Plugin) last(k key, u use) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.volumes[k]
	if s == nil {
		return true
	}
	for other := range s.uses {
		if other != u {
			return false
		}
	}
	return true
}

// end forgets a use of a volume.
func (p *Plugin) end(k key, u use) {
	p.drop(func(volume key, other use) bool { return volume == k && other == u })
}

// Forget ends the uses of a pod that were never begun on the node.
func (p *Plugin) Forget(uid types.UID) {
	p.drop(func(_ key, u use) bool { return u.pod == string(uid) })
}

// drop forgets uses, and volumes with their last. The node says at once that a
// volume is not in use any more: it can be detached then.
func (p *Plugin) drop(gone func(key, use) bool) {
	report := false
	p.mu.Lock()
	for k, s := range p.volumes {
		for u := range s.uses {
			if gone(k, u) {
				delete(s.uses, u)
			}
		}
		if len(s.uses) == 0 {
			delete(p.volumes, k)
			report = report || s.attached
		}
	}
	p.mu.Unlock()
	if report {
		p.cfg.Report()
	}
}

// InUse lists the volumes that must not be detached from the node.
func (p *Plugin) InUse() []v1.UniqueVolumeName {
	p.restore()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []v1.UniqueVolumeName
	for k, s := range p.volumes {
		if s.attached {
			out = append(out, uniqueName(k))
		}
	}
	slices.Sort(out)
	return out
}

// restore reads what earlier kubelets left on disk.
func (p *Plugin) restore() {
	p.load.Do(func() {
		found, err := p.layout.scan()
		if err != nil {
			klog.Background().Info("Reading the node's CSI volumes failed in part", "err", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for u, f := range found {
			s := p.volumes[f.key()]
			if s == nil {
				s = &state{uses: map[use]*publication{}, block: f.block}
				p.volumes[f.key()] = s
			}
			s.attached = s.attached || f.Attachment != "" && !f.ephemeral()
			s.uses[u] = &publication{}
		}
	})
}

// found is a use that was found on disk.
type found struct {
	note
	block bool
}

// scan lists the uses of volumes by pods that are on disk.
func (l layout) scan() (map[use]found, error) {
	out := map[use]found{}
	var errs []error
	files, err := filepath.Glob(filepath.Join(l.pods(), "*", "volumes", podKind, "*", dataFile))
	errs = append(errs, err)
	for _, f := range files {
		dir := filepath.Dir(f)
		r, err := readNote(dir)
		if err != nil {
			errs = append(errs, err)
		}
		if r != nil {
			u, _ := l.owner(dir)
			out[u] = found{note: *r}
		}
	}
	links, err := filepath.Glob(filepath.Join(l.pods(), "*", deviceDir, podKind, "*"))
	errs = append(errs, err)
	for _, link := range links {
		u, _ := l.owner(link)
		_, data := l.staging(key{}, u.spec, true)
		r, err := readNote(data)
		if err != nil {
			errs = append(errs, err)
		}
		if r != nil {
			out[u] = found{note: *r, block: true}
		}
	}
	return out, errors.Join(errs...)
}

// staged lists the notes of volumes that are staged on disk, by folder.
func (l layout) staged() (map[string]found, error) {
	out := map[string]found{}
	drivers, err := os.ReadDir(l.plugin())
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, d := range drivers {
		block := d.Name() == deviceDir
		volumes, err := os.ReadDir(filepath.Join(l.plugin(), d.Name()))
		errs = append(errs, err)
		for _, v := range volumes {
			dir := filepath.Join(l.plugin(), d.Name(), v.Name())
			if block {
				dir = filepath.Join(dir, "data")
			}
			r, err := readNote(dir)
			errs = append(errs, err)
			if r != nil {
				out[dir] = found{note: *r, block: block}
			}
		}
	}
	return out, errors.Join(errs...)
}
