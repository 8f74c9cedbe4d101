// Package pluginwatch registers the node's plugins: each puts a socket into a
// folder of the kubelet, which asks it there what it is, and hands it to the
// part that deals with its type.
package pluginwatch

import (
	"context"
	"errors"
	"maps"
)

// Info is what a plugin says of itself.
type Info struct {
	// Type is one of CSIPlugin, DevicePlugin and DRAPlugin of
	// k8s.io/kubelet/pkg/apis/pluginregistration/v1.
	Type, Name string
	// Endpoint is the socket where the plugin serves; Socket where it registered.
	Endpoint string
	Versions []string
	Socket   string
}

// Handler deals with plugins of one type. It is called from several goroutines,
// but never twice at once for the same socket.
type Handler interface {
	// Validate says why the plugin cannot be used.
	Validate(info Info) error
	// Register starts to use the plugin. It is called again, without a
	// Deregister, when the plugin has made its socket anew, and ends with ctx
	// when the socket goes away.
	Register(ctx context.Context, info Info) error
	// Deregister ends what Register began. A plugin that is replaced by another
	// of its name may have registered that one already: Socket tells them apart.
	Deregister(info Info)
}

// Config configures a Watcher.
type Config struct {
	// Dir is the folder of sockets; folders in it are looked at too.
	Dir string
	// Handlers are given by the plugins' type.
	Handlers map[string]Handler
}

// Watcher registers plugins.
type Watcher struct {
	dir      string
	handlers map[string]Handler
}

// New checks the configuration.
func New(cfg Config) (*Watcher, error) {
	if cfg.Dir == "" {
		return nil, errors.New("pluginwatch: Dir is required")
	}
	return &Watcher{dir: cfg.Dir, handlers: maps.Clone(cfg.Handlers)}, nil
}
