// Package shimapi is the contract between the runtime and its shims: what the
// runtime leaves on disk for a shim to start from, the records a shim leaves on
// disk, and the messages on the shim's socket.
//
// A shim is one process per pod, started in the pod's run directory. It
// outlives the runtime; everything that must survive a crash of either side is
// therefore in a file before it is said on the socket.
package shimapi

import (
	"encoding/json"
	"time"
)

// Names of the files in a pod's run directory.
const (
	SandboxFile   = "sandbox.json" // Sandbox, written by the runtime before the shim starts
	SocketFile    = "shim.sock"    // where the shim listens
	PidFile       = "shim.pid"     // Proc of the shim, written by the shim before it listens
	PauseFile     = "pause.pid"    // Proc of the pause process, where there is one
	NamespaceDir  = "ns"           // the pod's namespaces as bind mounts: net, ipc, uts, pid, user
	ContainerRoot = "c"            // libcontainer's state
	LogFile       = "shim.log"     // what the shim itself has to say
)

// Names of the files in a container's directory.
const (
	ConfigFile = "config.json" // the OCI runtime configuration, written by the runtime
	ExitFile   = "exit.json"   // Exit, written by the shim
)

// IDMapping maps a range of ids of a user namespace to the host.
type IDMapping struct {
	ContainerID uint32 `json:"containerID"`
	HostID      uint32 `json:"hostID"`
	Size        uint32 `json:"size"`
}

// Sandbox tells the shim which namespaces to make and hold for its pod.
type Sandbox struct {
	ID       string `json:"id"`
	Hostname string `json:"hostname,omitempty"`
	// Network, IPC, UTS and PID say which namespaces are the pod's own.
	Network bool `json:"network,omitempty"`
	IPC     bool `json:"ipc,omitempty"`
	UTS     bool `json:"uts,omitempty"`
	PID     bool `json:"pid,omitempty"`
	// UIDMappings and GIDMappings ask for a user namespace that owns the others.
	UIDMappings []IDMapping       `json:"uidMappings,omitempty"`
	GIDMappings []IDMapping       `json:"gidMappings,omitempty"`
	Sysctls     map[string]string `json:"sysctls,omitempty"`
	// Cgroup is the path, below each hierarchy's mount point, that the shim
	// moves itself to so that it does not end with the runtime's unit.
	Cgroup string `json:"cgroup,omitempty"`
}

// Proc names a process beyond doubt: a pid alone may have been given again.
type Proc struct {
	Pid       int    `json:"pid"`
	StartTime uint64 `json:"startTime"`
}

// Exit is the record of a container's end.
type Exit struct {
	ExitCode   int       `json:"exitCode"`
	OOMKilled  bool      `json:"oomKilled,omitempty"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
	// Reason and Message are set where the container did not end by itself.
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Container is what a shim knows of one of its containers.
type Container struct {
	ID        string    `json:"id"`
	Pid       int       `json:"pid"`
	StartedAt time.Time `json:"startedAt"`
	Exit      *Exit     `json:"exit,omitempty"`
}

// Op is what a request asks for.
type Op string

// The operations of a shim.
const (
	OpStart    Op = "start"    // run a container
	OpExec     Op = "exec"     // run a process in a container; files: stdin, stdout, stderr
	OpAttach   Op = "attach"   // join a container's streams; files: stdin, stdout, stderr
	OpSignal   Op = "signal"   // signal a container's init, or all of its processes
	OpResize   Op = "resize"   // set the size of a container's terminal
	OpUpdate   Op = "update"   // change a container's resources
	OpReopen   Op = "reopen"   // open a container's log file anew
	OpForget   Op = "forget"   // drop the memory of an exited container
	OpWatch    Op = "watch"    // all containers now, then each exit as it happens
	OpShutdown Op = "shutdown" // end all containers and the shim
)

// Start describes a container to run.
type Start struct {
	Dir       string `json:"dir"` // the container's directory: ConfigFile in, ExitFile out
	LogPath   string `json:"logPath,omitempty"`
	Terminal  bool   `json:"terminal,omitempty"`
	Stdin     bool   `json:"stdin,omitempty"`
	StdinOnce bool   `json:"stdinOnce,omitempty"`
	Systemd   bool   `json:"systemd,omitempty"`
	// LogLimit is the longest line in bytes that the log keeps whole.
	LogLimit int `json:"logLimit,omitempty"`
}

// Streams says which of stdin, stdout and stderr come with a request, in order.
type Streams struct {
	Stdin    bool     `json:"stdin,omitempty"`
	Stdout   bool     `json:"stdout,omitempty"`
	Stderr   bool     `json:"stderr,omitempty"`
	Terminal bool     `json:"terminal,omitempty"`
	Args     []string `json:"args,omitempty"`
}

// Request is the one frame a client sends on a connection.
type Request struct {
	Op        Op              `json:"op"`
	ID        string          `json:"id,omitempty"`
	Start     *Start          `json:"start,omitempty"`
	Streams   *Streams        `json:"streams,omitempty"`
	Signal    int             `json:"signal,omitempty"`
	All       bool            `json:"all,omitempty"`
	Width     uint16          `json:"width,omitempty"`
	Height    uint16          `json:"height,omitempty"`
	Resources json.RawMessage `json:"resources,omitempty"` // OCI LinuxResources
}

// Code classes a failure.
type Code string

// The classes of failure a caller can act on.
const (
	CodeNotFound   Code = "NotFound"
	CodeNotRunning Code = "NotRunning"
	CodeFailed     Code = "Failed"
)

// Reply is a frame of a shim. Most operations have one; exec has one when the
// process runs (with its terminal where asked) and one when it has ended,
// watch has one for now and one for each exit.
type Reply struct {
	Code       Code        `json:"code,omitempty"`
	Error      string      `json:"error,omitempty"`
	Pid        int         `json:"pid,omitempty"`
	StartedAt  time.Time   `json:"startedAt,omitzero"`
	ExitCode   *int        `json:"exitCode,omitempty"`
	Containers []Container `json:"containers,omitempty"`
}
