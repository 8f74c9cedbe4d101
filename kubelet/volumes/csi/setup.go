package csi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	csispec "github.com/container-storage-interface/spec/lib/go/csi"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"skiff/kubelet/volumes/volume"
)

// work is one volume of a pod being set up.
type work struct {
	*Plugin
	*target
	rules
	request *volume.Request
	driver  *driver
	// options are the mount's.
	options []string
}

// SetUp implements volume.Plugin.
func (p *Plugin) SetUp(ctx context.Context, r *volume.Request) (*volume.Mounted, error) {
	t, err := resolve(r)
	if err != nil {
		return nil, err
	}
	object, err := p.object(ctx, t.driver)
	if err != nil {
		return nil, err
	}
	w := &work{Plugin: p, target: t, rules: rulesOf(object), request: r, options: t.mountOptions}
	if err := w.allowed(t); err != nil {
		return nil, fmt.Errorf("kubernetes.io/csi: %w", err)
	}
	if option := w.selinuxOption(t); option != "" && p.cfg.SELinux {
		w.options = append(append([]string(nil), w.options...), option)
	}
	pub := p.begin(t, w.attach)
	if len(t.accessModes) == 1 && t.accessModes[0] == v1.ReadWriteOncePod && !p.last(t.key, t.use()) {
		p.end(t.key, t.use())
		return nil, errors.New("volume uses the ReadWriteOncePod access mode and is already in use by another pod")
	}
	if done, err := w.alreadyDone(pub); err != nil || done {
		if err != nil {
			return nil, err
		}
		return w.lookAgain(ctx, pub), nil
	}
	if w.driver, err = p.driver(ctx, t.driver); err != nil {
		return nil, step(w.first(), fmt.Errorf("kubernetes.io/csi: %w", err))
	}
	var given map[string]string
	if w.attach && !t.ephemeral {
		if given, err = p.attachment(ctx, t); err != nil {
			return nil, step("MountVolume.WaitForAttach", err)
		}
	}
	unlock, err := p.locks.Lock(ctx, t.key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := w.stageVolume(ctx, given); err != nil {
		return nil, step(w.first(), err)
	}
	if err := w.publishVolume(ctx, given); err != nil {
		return nil, step(w.second(), err)
	}
	if err := w.expandVolume(ctx, pub); err != nil {
		return nil, step("MountVolume.NodeExpandVolume", err)
	}
	p.mu.Lock()
	pub.done, pub.at = true, time.Now()
	p.mu.Unlock()
	return w.mounted(), nil
}

func step(name string, err error) error { return &volume.StepError{Step: name, Err: err} }

// first and second name the steps in events.
func (w *work) first() string {
	switch {
	case w.block:
		return "MapVolume.SetUpDevice"
	case w.ephemeral:
		return "MountVolume.SetUp"
	}
	return "MountVolume.MountDevice"
}

func (w *work) second() string {
	if w.block {
		return "MapVolume.MapPodDevice"
	}
	return "MountVolume.SetUp"
}

// path is where the volume is published.
func (w *work) path() string {
	if w.block {
		return w.layout.device(w.use())
	}
	return filepath.Join(w.request.Dir, "mount")
}

func (w *work) mounted() *volume.Mounted {
	out := &volume.Mounted{Path: w.path(), Block: w.block, ReadOnly: w.readOnly}
	if w.republish || w.request.PV != nil {
		// Tokens run out, and volumes grow: nothing else tells.
		out.Refresh = w.cfg.Refresh
	}
	return out
}

// alreadyDone reports whether the volume is ready, also by an earlier kubelet.
func (w *work) alreadyDone(pub *publication) (bool, error) {
	w.mu.Lock()
	done := pub.done
	w.mu.Unlock()
	if done {
		return true, nil
	}
	var r *note
	var err error
	if w.block {
		_, data := w.layout.staging(w.key, w.spec, true)
		if r, err = readNote(data); err == nil && r != nil {
			if info, err := os.Stat(w.request.Dir); err != nil || info.Mode()&os.ModeDevice == 0 {
				return false, nil // not published yet, or not since the machine started
			}
		}
	} else if r, err = readNote(w.request.Dir); err == nil && r != nil && r.Pending == "" {
		var mounted bool
		if mounted, err = volume.MountPoint(w.cfg.Mounter, w.path()); !mounted {
			r = nil
		}
	}
	if err != nil || r == nil || r.Pending != "" || r.key() != w.key {
		return false, err
	}
	w.mu.Lock()
	pub.done = true
	w.mu.Unlock()
	return true, nil
}

// lookAgain does what a ready volume needs now and then. The pod runs: what
// fails is tried again later and takes nothing away from it.
func (w *work) lookAgain(ctx context.Context, pub *publication) *volume.Mounted {
	w.mu.Lock()
	republish := w.republish && time.Since(pub.at) >= w.cfg.Refresh/2
	w.mu.Unlock()
	grow := w.grows(pub)
	if !republish && !grow {
		return w.mounted()
	}
	err := w.again(ctx, pub, republish, grow)
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Info("Looking after a CSI volume failed, will try again", "pod", klog.KObj(w.pod), "volume", w.spec, "err", err)
		w.cfg.Recorder.Eventf(w.pod, v1.EventTypeWarning, "FailedMount", "%s failed for volume %q : %v", w.second(), w.spec, err)
	}
	return w.mounted()
}

func (w *work) again(ctx context.Context, pub *publication, republish, grow bool) error {
	var err error
	if w.driver, err = w.Plugin.driver(ctx, w.key.driver); err != nil {
		return err
	}
	var given map[string]string
	if republish && w.attach && !w.ephemeral {
		if given, err = w.attachment(ctx, w.target); err != nil {
			return err
		}
	}
	unlock, err := w.locks.Lock(ctx, w.key)
	if err != nil {
		return err
	}
	defer unlock()
	if republish {
		if err := w.callPublish(ctx, given); err != nil {
			return err
		}
		w.mu.Lock()
		pub.at = time.Now()
		w.mu.Unlock()
	}
	if grow {
		return w.expandVolume(ctx, pub)
	}
	return nil
}

// note is what the volume's data files say.
func (w *work) note() note {
	r := note{Spec: w.spec, Handle: w.handle, Driver: w.key.driver, Node: w.cfg.NodeName, Lifecycle: "Persistent"}
	if w.ephemeral {
		r.Lifecycle = "Ephemeral"
	} else if w.attach {
		r.Attachment = attachmentName(w.key, w.cfg.NodeName)
	}
	return r
}

// stageVolume makes the volume ready for the node. The caller has its lock.
func (w *work) stageVolume(ctx context.Context, given map[string]string) error {
	path, data := w.layout.staging(w.key, w.spec, w.block)
	w.mu.Lock()
	staged := w.volumes[w.key].staged
	w.mu.Unlock()
	if staged || w.ephemeral {
		return nil
	}
	if w.block || w.driver.stage {
		if err := w.note().write(data); err != nil {
			return err
		}
	}
	if w.driver.stage {
		if err := os.MkdirAll(path, 0o750); err != nil {
			return err
		}
		secrets, err := w.secrets(ctx, "NodeStageSecretRef", w.stage)
		if err != nil {
			return err
		}
		_, err = call(ctx, func(ctx context.Context) (*csispec.NodeStageVolumeResponse, error) {
			return w.driver.node().NodeStageVolume(ctx, &csispec.NodeStageVolumeRequest{
				VolumeId: w.handle, PublishContext: given, StagingTargetPath: path, Secrets: secrets, VolumeContext: w.attributes,
				VolumeCapability: w.capability(w.driver.features, w.options, w.mountGroup()),
			})
		})
		if err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.volumes[w.key].staged = true
	w.mu.Unlock()
	return nil
}

// mountGroup is the group that the driver itself gives the volume to.
func (w *work) mountGroup() *int64 {
	if w.driver.mountGroup && w.owns(w.target) {
		return w.group()
	}
	return nil
}

// publishVolume makes the volume ready for the pod. The caller has its lock.
func (w *work) publishVolume(ctx context.Context, given map[string]string) error {
	if w.block {
		return w.publishDevice(ctx, given)
	}
	r := w.note()
	r.Pending = "true"
	if err := r.write(w.request.Dir); err != nil {
		return err
	}
	if err := w.callPublish(ctx, given); err != nil {
		return err
	}
	if group := w.group(); w.owns(w.target) && !w.driver.mountGroup {
		if err := volume.SetOwnership(w.path(), *group, false, w.pod.Spec.SecurityContext.FSGroupChangePolicy); err != nil {
			return fmt.Errorf("kubernetes.io/csi: mounter.SetupAt failed to chown volume for volume id %s: %w", w.handle, err)
		}
	}
	r.Pending = ""
	return r.write(w.request.Dir)
}

// publishDevice links the pod's folder to the device that the driver gives.
func (w *work) publishDevice(ctx context.Context, given map[string]string) error {
	device := w.path()
	for _, dir := range []string{filepath.Dir(device), filepath.Dir(w.request.Dir)} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return err
		}
	}
	if err := os.Symlink(device, w.request.Dir); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := w.callPublish(ctx, given); err != nil {
		return err
	}
	info, err := os.Stat(device)
	if err != nil {
		return fmt.Errorf("CSI driver %s published no device: %w", w.key.driver, err)
	}
	if info.Mode()&os.ModeDevice == 0 {
		return fmt.Errorf("CSI driver %s published %s, which is not a device", w.key.driver, device)
	}
	return nil
}

func (w *work) callPublish(ctx context.Context, given map[string]string) error {
	tokens, err := w.serviceAccountTokens(ctx)
	if err != nil {
		return err
	}
	secrets, err := w.secrets(ctx, "NodePublishSecretRef", w.publish)
	if err != nil {
		return err
	}
	if tokens != "" && w.tokensInSecrets {
		secrets = maps.Clone(secrets)
		if secrets == nil {
			secrets = map[string]string{}
		}
		secrets[keyTokens] = tokens
	}
	staging := ""
	if w.driver.stage && !w.ephemeral {
		staging, _ = w.layout.staging(w.key, w.spec, w.block)
	}
	_, err = call(ctx, func(ctx context.Context) (*csispec.NodePublishVolumeResponse, error) {
		return w.driver.node().NodePublishVolume(ctx, &csispec.NodePublishVolumeRequest{
			VolumeId: w.handle, PublishContext: given, StagingTargetPath: staging, TargetPath: w.path(), Readonly: w.readOnly, Secrets: secrets,
			VolumeCapability: w.capability(w.driver.features, w.options, w.mountGroup()), VolumeContext: w.publishContext(w.rules, tokens),
		})
	})
	return err
}

// serviceAccountTokens are the pod's tokens for the audiences that the driver
// asks for; "" for none.
func (w *work) serviceAccountTokens(ctx context.Context) (string, error) {
	if len(w.tokens) == 0 {
		return "", nil
	}
	out := map[string]*authenticationv1.TokenRequestStatus{}
	for _, request := range w.tokens {
		t, err := w.cfg.Tokens.Token(ctx, w.pod, request.Audience, request.ExpirationSeconds)
		if err != nil {
			return "", fmt.Errorf("kubernetes.io/csi: mounter.SetUpAt failed to get service account token attributes: %w", err)
		}
		out[request.Audience] = t
	}
	return encodeTokens(out)
}

// secrets reads the secret that a step needs.
func (w *work) secrets(ctx context.Context, field string, ref *v1.SecretReference) (map[string]string, error) {
	if ref == nil {
		return nil, nil
	}
	secret, err := w.cfg.Objects.Secret(ctx, ref.Namespace, ref.Name)
	if err != nil {
		return nil, fmt.Errorf("fetching %s %s/%s failed: %w", field, ref.Namespace, ref.Name, err)
	}
	out := map[string]string{}
	for k, v := range secret.Data {
		out[k] = string(v)
	}
	return out, nil
}
