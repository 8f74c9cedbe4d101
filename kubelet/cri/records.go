package cri

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"skiff/kubelet/cri/shimapi"
	"skiff/kubelet/network"
)

const recordFile = "record.json"

// phase is how far a sandbox has come.
//
//	creating -> ready -> stopped -> (removed)
//	    \        \        /
//	     \------> ended -/
type phase string

const (
	phaseCreating phase = "creating"
	phaseReady    phase = "ready"
	// phaseEnded is that of a sandbox which cannot be used, and whose network or
	// shim could not be given back yet: whoever stops it tries that again.
	phaseEnded   phase = "ended"
	phaseStopped phase = "stopped"
)

// sandboxRecord is what is kept on disk of a sandbox.
type sandboxRecord struct {
	ID        string         `json:"id"`
	Config    []byte         `json:"config"` // PodSandboxConfig
	Handler   string         `json:"handler,omitempty"`
	CreatedAt int64          `json:"createdAt"`
	Phase     phase          `json:"phase"`
	Network   network.Result `json:"network"`
	// MadeCgroup is set when the runtime, not its client, made the pod's cgroup.
	MadeCgroup bool `json:"madeCgroup,omitempty"`
}

// containerRecord is what is kept on disk of a container.
type containerRecord struct {
	ID        string `json:"id"`
	SandboxID string `json:"sandboxID"`
	Config    []byte `json:"config"` // ContainerConfig
	CreatedAt int64  `json:"createdAt"`
	// ImageID is the image's digest, ImageRef the name that tells most of it.
	ImageID  string `json:"imageID"`
	ImageRef string `json:"imageRef"`
	// ImageName is the image's name with its tag, empty where it has none.
	ImageName string   `json:"imageName,omitempty"`
	Layers    []string `json:"layers"`
	LogPath   string   `json:"logPath,omitempty"`
	Stop      string   `json:"stop,omitempty"` // stop signal
	CgroupID  string   `json:"cgroup"`         // path below each hierarchy
	User      *user    `json:"user,omitempty"`
	Mounts    int      `json:"mounts,omitempty"` // image mounts below the container's folder
	// Started is set before the shim is asked to start it.
	Started bool `json:"started,omitempty"`
	// StartError is why it could not be started.
	StartError string `json:"startError,omitempty"`
	FailedAt   int64  `json:"failedAt,omitempty"`
	// Resources are the limits after updates; nil as configured.
	Resources []byte `json:"resources,omitempty"` // LinuxContainerResources
	Removing  bool   `json:"removing,omitempty"`
}

// user is whom a container runs as.
type user struct {
	UID    int64   `json:"uid"`
	GID    int64   `json:"gid"`
	Groups []int64 `json:"groups,omitempty"`
}

func newID() string {
	var b [32]byte
	// crypto/rand never fails; it ends the process where it cannot work.
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func writeRecord(dir string, rec any) error {
	return shimapi.WriteJSON(filepath.Join(dir, recordFile), rec)
}

func decode[T any, P interface {
	*T
	proto.Message
}](data []byte) (P, error) {
	m := P(new(T))
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return m, nil
}

func sandboxName(m *runtimeapi.PodSandboxMetadata) string {
	return "sandbox " + m.GetName() + "_" + m.GetNamespace() + "_" + m.GetUid() + "_" + strconv.Itoa(int(m.GetAttempt()))
}

func containerName(m *runtimeapi.ContainerMetadata, sandboxID string) string {
	return "container " + m.GetName() + "_" + strconv.Itoa(int(m.GetAttempt())) + "_" + sandboxID
}

// reserve keeps a name for an ID; it fails when another has it.
func (r *Runtime) reserve(name, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if holder, taken := r.reserved[name]; taken && holder != id {
		return fmt.Errorf("failed to reserve %s: name is reserved for %q", name, holder)
	}
	r.reserved[name] = id
	return nil
}

func (r *Runtime) unreserve(name, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reserved[name] == id {
		delete(r.reserved, name)
	}
}
