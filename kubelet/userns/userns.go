// Package userns gives each pod that does not share the host's users a range of
// them for its own. A range is written into the pod's folder before it is used,
// so that a kubelet started anew gives it to no other pod.
package userns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// unit divides the length of every range, and the host's own users are all
	// below it.
	unit = 65536
	// file is where a pod's folder has its range.
	file = "userns"
)

// Config configures an Allocator.
type Config struct {
	// PodDir is the folder of a pod.
	PodDir func(types.UID) string
	// Length is how many users each pod gets, a multiple of 65536, which is the
	// default.
	Length int64
	// Pods is how many pods the node takes.
	Pods int
}

// Allocator gives out ranges.
type Allocator struct {
	cfg Config

	mu   sync.Mutex
	used map[types.UID]int64 // the first host user of each pod; guarded by mu
}

// mapping is the content of a pod's file.
type mapping struct {
	UIDs []idRange `json:"uidMappings"`
	GIDs []idRange `json:"gidMappings"`
}

type idRange struct {
	Host      int64 `json:"hostId"`
	Container int64 `json:"containerId"`
	Length    int64 `json:"length"`
}

// New checks the configuration and takes the ranges of the pods that are there.
func New(cfg Config, pods []types.UID) (*Allocator, error) {
	if cfg.Length == 0 {
		cfg.Length = unit
	}
	if cfg.Length%unit != 0 || cfg.Length < 0 || cfg.Length*int64(cfg.Pods+1) >= 1<<32 {
		return nil, fmt.Errorf("userNamespaces.idsPerPod %d: want a multiple of %d of which %d fit into 32 bits", cfg.Length, unit, cfg.Pods+1)
	}
	a := &Allocator{cfg: cfg, used: make(map[types.UID]int64)}
	for _, uid := range pods {
		first, err := a.read(uid)
		if err != nil {
			return nil, err
		}
		if first != 0 {
			a.used[uid] = first
		}
	}
	return a, nil
}

// read returns the first host user of a pod's range, 0 where it has none.
func (a *Allocator) read(uid types.UID) (int64, error) {
	path := filepath.Join(a.cfg.PodDir(uid), file)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var m mapping
	if err := json.Unmarshal(b, &m); err != nil {
		return 0, fmt.Errorf("user namespace of pod %s: %s: %w", uid, path, err)
	}
	if len(m.UIDs) != 1 || m.UIDs[0].Host < unit {
		return 0, fmt.Errorf("user namespace of pod %s: %s: want one range of users above %d", uid, path, unit)
	}
	return m.UIDs[0].Host, nil
}

// For is the user namespace of a pod, which is the host's unless the pod asks
// for its own.
func (a *Allocator) For(pod *v1.Pod) (*runtimeapi.UserNamespace, error) {
	if pod.Spec.HostUsers == nil || *pod.Spec.HostUsers {
		return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE}, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	first, ok := a.used[pod.UID]
	if !ok {
		first = a.free()
		if err := a.write(pod.UID, first); err != nil {
			return nil, fmt.Errorf("user namespace: %w", err)
		}
		a.used[pod.UID] = first
	}
	ids := []*runtimeapi.IDMapping{{HostId: uint32(first), ContainerId: 0, Length: uint32(a.cfg.Length)}}
	return &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: ids, Gids: ids}, nil
}

// free is the lowest range that no pod has. Ranges of pods of another length,
// from before a change of the configuration, are gone around.
func (a *Allocator) free() int64 {
	first := a.cfg.Length
	for again := true; again; {
		again = false
		for _, taken := range a.used {
			if first < taken+a.cfg.Length && taken < first+a.cfg.Length {
				first, again = taken+a.cfg.Length, true
			}
		}
	}
	return first
}

func (a *Allocator) write(uid types.UID, first int64) error {
	r := []idRange{{Host: first, Length: a.cfg.Length}}
	b, err := json.Marshal(mapping{UIDs: r, GIDs: r})
	if err != nil {
		return err
	}
	dir := a.cfg.PodDir(uid)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+file)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	// A name that outlives its content would keep the kubelet from starting.
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), filepath.Join(dir, file))
}

// Release gives back the range of a pod of which nothing runs any more.
func (a *Allocator) Release(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.used, uid)
}
