package cri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/klog/v2"

	"skiff/kubelet/cri/shimapi"
	"skiff/kubelet/network"
)

// background joins the goroutines that Run started and that calls start later.
type background struct {
	mu    sync.Mutex
	ctx   context.Context // nil before and after Run; guarded by mu
	group sync.WaitGroup
}

func (b *background) open(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ctx = ctx
}

// do runs f until Run's context ends; after that it does nothing.
func (b *background) do(f func(context.Context)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx == nil {
		return
	}
	ctx := b.ctx
	b.group.Go(func() { f(ctx) })
}

func (b *background) join() {
	b.mu.Lock()
	b.ctx = nil
	b.mu.Unlock()
	b.group.Wait()
}

// Run finds out what runs, finishes what an earlier process began, and serves
// until ctx ends. Pods keep running.
func (r *Runtime) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listener, err := net.Listen("tcp", r.cfg.StreamAddress)
	if err != nil {
		return fmt.Errorf("cri: stream address: %w", err)
	}
	defer listener.Close()
	scfg := streaming.DefaultConfig
	scfg.Addr = listener.Addr().String()
	scfg.BaseURL = &url.URL{Scheme: "http", Host: listener.Addr().String()}
	stream, err := streaming.NewServer(scfg, streamRuntime{r})
	if err != nil {
		return fmt.Errorf("cri: stream server: %w", err)
	}
	r.streamMu.Lock()
	r.stream = stream
	r.streamMu.Unlock()
	r.background.open(ctx)
	defer r.background.join()
	defer cancel()
	defer r.shims.close()

	if err := r.recover(ctx); err != nil {
		return fmt.Errorf("cri: %w", err)
	}
	close(r.ready)

	errs := make(chan error, 2)
	var servers sync.WaitGroup
	defer servers.Wait()
	hs := &http.Server{Handler: stream, ReadHeaderTimeout: 10 * time.Second}
	servers.Go(func() {
		if err := hs.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			errs <- fmt.Errorf("cri: serve streams: %w", err)
		}
	})
	defer hs.Close()
	if r.cfg.Socket != "" {
		stop, err := r.serveSocket(&servers, errs)
		if err != nil {
			return fmt.Errorf("cri: %w", err)
		}
		defer stop()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-errs:
		return err
	}
}

// recover reads what is on disk, compares it with what runs, and finishes or
// undoes what was under way when the last process ended.
func (r *Runtime) recover(ctx context.Context) error {
	log := klog.FromContext(ctx)
	entries, err := os.ReadDir(r.sandboxRoot())
	if err != nil {
		return err
	}
	for _, e := range entries {
		var rec sandboxRecord
		dir := filepath.Join(r.sandboxRoot(), e.Name())
		if err := shimapi.ReadJSON(filepath.Join(dir, recordFile), &rec); err != nil || rec.ID != e.Name() {
			// It was cut short before anything was made, or it is half removed.
			rec = sandboxRecord{ID: e.Name(), Phase: phaseCreating}
		}
		if err := r.loadSandbox(ctx, rec); err != nil {
			log.Error(err, "Could not recover a pod sandbox; it is tried again at the next start", "sandbox", e.Name())
		}
	}
	if err := r.loadContainers(ctx); err != nil {
		return err
	}
	for _, sb := range r.sandboxes {
		if sb.phase() == phaseReady {
			r.watch(sb)
		}
	}
	r.recoverOrphans(ctx)
	if rc, ok := r.cfg.Network.(network.Reconciler); ok {
		var live []string
		for id, sb := range r.sandboxes {
			if sb.phase() != phaseStopped && !sb.hostNetwork() {
				live = append(live, id)
			}
		}
		if err := rc.Reconcile(ctx, live); err != nil {
			log.Error(err, "Could not free the network of pods that are gone")
		}
	}
	if err := r.images.Sweep(r.layersInUse()); err != nil {
		log.Error(err, "Could not remove unused image content")
	}
	return nil
}

// loadSandbox brings a sandbox back.
func (r *Runtime) loadSandbox(ctx context.Context, rec sandboxRecord) error {
	cfg, err := decode[runtimeapi.PodSandboxConfig](rec.Config)
	if err != nil {
		return err
	}
	sb := r.newSandbox(rec, cfg)
	if rec.Phase == phaseCreating || cfg.Metadata == nil {
		err := r.destroySandbox(ctx, sb)
		if err == nil || cfg.Metadata == nil {
			return err
		}
		klog.FromContext(ctx).Error(err, "Could not clean up after a pod sandbox that was being made; its client may stop it", "sandbox", rec.ID)
		r.endSandbox(ctx, sb)
		return r.reserve(sandboxName(cfg.Metadata), rec.ID)
	}
	if err := r.reserve(sandboxName(cfg.Metadata), rec.ID); err != nil {
		return err
	}
	r.mu.Lock()
	r.sandboxes[rec.ID] = sb
	r.mu.Unlock()
	if rec.Phase == phaseStopped || rec.Phase == phaseEnded {
		return nil
	}
	var proc shimapi.Proc
	if err := shimapi.ReadJSON(filepath.Join(sb.dir, shimapi.PidFile), &proc); err == nil && proc.Alive() {
		return nil
	}
	// The machine was started anew, or someone killed the shim.
	if err := r.releaseSandbox(ctx, sb); err != nil {
		klog.FromContext(ctx).Error(err, "Could not release a pod sandbox whose shim is gone; its client may stop it", "sandbox", rec.ID)
		r.endSandbox(ctx, sb)
		return nil
	}
	return r.changeSandbox(sb, func(rec *sandboxRecord) { rec.Phase = phaseStopped })
}

func (r *Runtime) loadContainers(ctx context.Context) error {
	log := klog.FromContext(ctx)
	entries, err := os.ReadDir(r.containerRoot())
	if err != nil {
		return err
	}
	running := make(map[string]map[string]shimapi.Container)
	for _, e := range entries {
		dir := filepath.Join(r.containerRoot(), e.Name())
		var rec containerRecord
		err := shimapi.ReadJSON(filepath.Join(dir, recordFile), &rec)
		sb := r.sandboxes[rec.SandboxID]
		if err != nil || strings.HasPrefix(e.Name(), deadPrefix) || rec.Removing || sb == nil {
			r.layout.kill(rec.CgroupID)
			if err := removeFolder(dir); err != nil {
				log.Error(err, "Could not remove what is left of a container", "container", e.Name())
			}
			continue
		}
		cfg, err := decode[runtimeapi.ContainerConfig](rec.Config)
		if err != nil {
			return fmt.Errorf("container %s: %w", rec.ID, err)
		}
		c := &container{id: rec.ID, dir: dir, cfg: cfg, sandbox: sb, created: rec.CreatedAt, done: make(chan struct{}), rec: rec}
		if err := r.reserve(containerName(cfg.Metadata, sb.id), rec.ID); err != nil {
			return err
		}
		r.mu.Lock()
		r.containers[rec.ID] = c
		r.mu.Unlock()
		if _, asked := running[sb.id]; !asked {
			running[sb.id] = r.askShim(ctx, sb)
		}
		r.settle(c, running[sb.id])
	}
	return nil
}

// askShim lists the containers that a sandbox's shim has.
func (r *Runtime) askShim(ctx context.Context, sb *sandbox) map[string]shimapi.Container {
	out := make(map[string]shimapi.Container)
	if sb.phase() != phaseReady {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_ = sb.shim.Watch(ctx, func(list []shimapi.Container) {
		for _, c := range list {
			out[c.ID] = c
		}
		cancel()
	}, func(shimapi.Container) {})
	return out
}

// settle finds a loaded container's state.
func (r *Runtime) settle(c *container, running map[string]shimapi.Container) {
	var exit shimapi.Exit
	if err := shimapi.ReadJSON(filepath.Join(c.dir, shimapi.ExitFile), &exit); err == nil {
		c.ended(&exit)
		return
	}
	if c.rec.StartError != "" {
		c.ended(startFailure(c.rec.StartError, time.Unix(0, c.rec.FailedAt)))
		return
	}
	if info, ok := running[c.id]; ok {
		c.started(info.Pid, info.StartedAt)
		if info.Exit != nil {
			c.ended(info.Exit)
		}
		return
	}
	if c.rec.Started && c.sandbox.phase() != phaseReady {
		r.lost(c)
	}
}

// recoverOrphans ends the shims that no sandbox knows.
func (r *Runtime) recoverOrphans(ctx context.Context) {
	entries, err := os.ReadDir(r.cfg.RunDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || r.sandboxes[e.Name()] != nil || len(e.Name()) != 64 {
			continue
		}
		dir := filepath.Join(r.cfg.RunDir, e.Name())
		err := endShim(ctx, dir)
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			klog.FromContext(ctx).Error(err, "Could not end a shim that has no pod", "sandbox", e.Name())
		}
	}
}

// layersInUse lists the layers that containers stand on.
func (r *Runtime) layersInUse() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, c := range r.containers {
		c.mu.Lock()
		out = append(out, c.rec.Layers...)
		c.mu.Unlock()
	}
	return out
}

// watch follows a sandbox's shim for as long as both run.
func (r *Runtime) watch(sb *sandbox) {
	r.background.do(func(ctx context.Context) {
		for ctx.Err() == nil {
			err := sb.shim.Watch(ctx, func(list []shimapi.Container) {
				for _, c := range list {
					r.heard(c)
				}
			}, r.heard)
			if ctx.Err() != nil || err == nil {
				return
			}
			var proc shimapi.Proc
			if rerr := shimapi.ReadJSON(filepath.Join(sb.dir, shimapi.PidFile), &proc); rerr != nil || !proc.Alive() {
				r.shimEnded(ctx, sb)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
}

// heard takes a shim's word about one of its containers.
func (r *Runtime) heard(info shimapi.Container) {
	r.mu.Lock()
	c := r.containers[info.ID]
	r.mu.Unlock()
	if c == nil {
		return
	}
	c.started(info.Pid, info.StartedAt)
	if info.Exit != nil && c.ended(info.Exit) {
		r.emit(c.id, c.sandbox, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	}
}

// shimEnded handles a shim that is gone: normal when the pod was stopped, else
// the pod is over.
func (r *Runtime) shimEnded(ctx context.Context, sb *sandbox) {
	sb.op.Lock()
	defer sb.op.Unlock()
	if sb.phase() != phaseReady {
		return
	}
	log := klog.FromContext(ctx)
	log.Info("A pod's shim has ended by itself", "sandbox", sb.id, "pod", sb.cfg.Metadata.Namespace+"/"+sb.cfg.Metadata.Name)
	// First the sandbox, then its containers: a client that hears of their end is not
	// to start them again in a sandbox that seems to be there.
	r.endSandbox(ctx, sb)
	for _, c := range r.containersOf(sb.id) {
		if c.record().Started {
			r.lost(c)
		}
	}
	if err := r.releaseSandbox(ctx, sb); err != nil {
		log.Error(err, "Could not release a pod sandbox; its client may stop it", "sandbox", sb.id)
	} else if err := r.changeSandbox(sb, func(rec *sandboxRecord) { rec.Phase = phaseStopped }); err != nil {
		log.Error(err, "Could not record a pod sandbox's end", "sandbox", sb.id)
	}
	r.emit(sb.id, sb, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}
