package pluginwatch

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// answerTime bounds each question to a plugin.
const answerTime = 10 * time.Second

// retry is the wait after so many failures in a row.
func retry(failures int) time.Duration {
	return min(500*time.Millisecond<<min(failures, 8), 2*time.Minute)
}

// serve registers the plugin behind a socket, again and again until it works,
// and returns what is registered in the end. before is what an earlier socket
// at the same place was registered as.
func (w *Watcher) serve(ctx context.Context, socket string, before *Info) *Info {
	for failures := 0; ; failures++ {
		info, err := w.register(ctx, socket)
		if err == nil {
			if before != nil && (before.Type != info.Type || before.Name != info.Name) {
				w.deregister(before)
			}
			klog.FromContext(ctx).Info("Registered a plugin", "type", info.Type, "plugin", info.Name, "endpoint", info.Endpoint)
			return info
		}
		if ctx.Err() != nil {
			return before
		}
		klog.FromContext(ctx).Info("Registering a plugin failed, will try again", "socket", socket, "err", err)
		timer := time.NewTimer(retry(failures))
		select {
		case <-ctx.Done():
			timer.Stop()
			return before
		case <-timer.C:
		}
	}
}

// register is one attempt; the plugin is told how it went.
func (w *Watcher) register(ctx context.Context, socket string) (_ *Info, err error) {
	conn, err := Dial(socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	client := registration.NewRegistrationClient(conn)
	asked, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	said, err := client.GetInfo(asked, &registration.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("ask the plugin at %s: %w", socket, err)
	}
	info := Info{Type: said.Type, Name: said.Name, Endpoint: said.Endpoint, Versions: said.SupportedVersions, Socket: socket}
	if info.Endpoint == "" {
		info.Endpoint = socket
	}
	failure := w.handle(ctx, info)
	status := &registration.RegistrationStatus{PluginRegistered: failure == nil}
	if failure != nil {
		status.Error = "RegisterPlugin error -- " + failure.Error()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	told, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if _, err := client.NotifyRegistrationStatus(told, status); err != nil {
		// What was registered stays so: the plugin serves whether it listens or not.
		klog.FromContext(ctx).Info("Telling a plugin of its registration failed", "plugin", info.Name, "socket", socket, "err", err)
	}
	return &info, failure
}

func (w *Watcher) handle(ctx context.Context, info Info) error {
	h, ok := w.handlers[info.Type]
	if !ok {
		return fmt.Errorf("no handler registered for plugin type: %s at socket %s", info.Type, info.Socket)
	}
	// A name becomes part of paths.
	if info.Name == "" || info.Name == "." || info.Name == ".." || strings.ContainsRune(info.Name, 0) {
		return fmt.Errorf("plugin validation failed with err: invalid plugin name %q", info.Name)
	}
	if err := h.Validate(info); err != nil {
		return fmt.Errorf("plugin validation failed with err: %w", err)
	}
	if err := h.Register(ctx, info); err != nil {
		return fmt.Errorf("plugin registration failed with err: %w", err)
	}
	return nil
}

func (w *Watcher) deregister(info *Info) {
	if h, ok := w.handlers[info.Type]; ok {
		h.Deregister(*info)
	}
}
