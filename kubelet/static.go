package kubelet

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"
)

// Annotations of static pods.
const (
	annotationSource = "kubernetes.io/config.source"
	annotationSeen   = "kubernetes.io/config.seen"
	annotationHash   = "kubernetes.io/config.hash"
)

// Where static pods come from.
const (
	sourceFile = "file"
	sourceHTTP = "http"
)

// watchStatic reads the folder of static pods, and again when it changes. The
// channel closes when it was read for the first time.
func (k *Kubelet) watchStatic(ctx context.Context, wg *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	dir := k.cfg.Paths.Manifests
	if dir == "" {
		dir = k.cfg.Kubelet.StaticPodPath
	}
	if dir == "" {
		close(done)
		return done
	}
	wg.Go(func() {
		log := klog.FromContext(ctx)
		events := make(<-chan fsnotify.Event)
		if watcher, err := fsnotify.NewWatcher(); err == nil {
			defer func() { _ = watcher.Close() }()
			if err := watcher.Add(dir); err == nil {
				events = watcher.Events
			}
		}
		ticker := time.NewTicker(k.cfg.Kubelet.FileCheckFrequency.Duration)
		defer ticker.Stop()
		known := map[types.UID]bool{}
		for first := true; ; first = false {
			found, err := k.readStatic(ctx, dir)
			if err != nil {
				log.Info("Reading static pods failed, will try again", "path", dir, "err", err)
			} else {
				known = k.takeStatic(known, found)
			}
			if first {
				close(done)
			}
			select {
			case <-ctx.Done():
				return
			case <-events:
				// A file that is being written changes several times.
				timer := time.NewTimer(100 * time.Millisecond)
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				}
			case <-ticker.C:
			}
		}
	})
	return done
}

// takeStatic brings the pods of one source up to date: known are those that it
// had, and what it returns those that it has.
func (k *Kubelet) takeStatic(known map[types.UID]bool, found map[types.UID]*v1.Pod) map[types.UID]bool {
	for uid := range known {
		if found[uid] == nil {
			k.removePod(uid, nil)
		}
	}
	out := map[types.UID]bool{}
	for uid, pod := range found {
		out[uid] = true
		if r := k.snapshot(uid); r == nil || r.removed {
			k.setPod(pod, true)
		}
	}
	return out
}

// readStatic reads every manifest of the folder; a bad one is left out.
func (k *Kubelet) readStatic(ctx context.Context, dir string) (map[types.UID]*v1.Pod, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	out := map[types.UID]*v1.Pod{}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		pod, err := k.staticPod(data, sourceFile, path)
		if err != nil {
			klog.FromContext(ctx).Info("Can't process manifest file", "path", path, "err", err)
			continue
		}
		out[pod.UID] = pod
	}
	return out, nil
}

// staticPod reads a manifest and gives it the name, identifier and defaults of
// a pod that the API server never sees before its mirror. Its source is at path,
// which is a URL for sourceHTTP.
func (k *Kubelet) staticPod(data []byte, source, path string) (*v1.Pod, error) {
	pod := &v1.Pod{}
	if err := yaml.UnmarshalStrict(data, pod); err != nil {
		return nil, err
	}
	if pod.Kind != "Pod" || len(pod.Spec.Containers) == 0 || pod.Name == "" {
		return nil, fmt.Errorf("%s: want a Pod with a name and containers", path)
	}
	scheme.Scheme.Default(pod)
	staticDefaults(pod)
	if pod.UID == "" {
		sum := md5.New()
		body, err := json.Marshal(pod)
		if err != nil {
			return nil, err
		}
		kind := "file"
		if source == sourceHTTP {
			kind = "url"
		}
		_, _ = fmt.Fprintf(sum, "host:%s%s:%s", k.cfg.NodeName, kind, path)
		_, _ = sum.Write(body)
		pod.UID = types.UID(hex.EncodeToString(sum.Sum(nil)))
	}
	if !strings.HasSuffix(pod.Name, "-"+strings.ToLower(k.cfg.NodeName)) {
		pod.Name += "-" + strings.ToLower(k.cfg.NodeName)
	}
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	pod.Spec.NodeName = k.cfg.NodeName
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[annotationHash] = string(pod.UID)
	pod.Annotations[annotationSource] = source
	pod.Annotations[annotationSeen] = time.Now().Format(time.RFC3339Nano)
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, v1.Toleration{Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute})
	pod.Status.Phase = v1.PodPending
	return pod, nil
}

// staticDefaults are what the API server would fill in.
func staticDefaults(pod *v1.Pod) {
	spec := &pod.Spec
	if spec.RestartPolicy == "" {
		spec.RestartPolicy = v1.RestartPolicyAlways
	}
	if spec.DNSPolicy == "" {
		spec.DNSPolicy = v1.DNSClusterFirst
	}
	if spec.TerminationGracePeriodSeconds == nil {
		grace := int64(30)
		spec.TerminationGracePeriodSeconds = &grace
	}
	if spec.SecurityContext == nil {
		spec.SecurityContext = &v1.PodSecurityContext{}
	}
	off := false
	spec.AutomountServiceAccountToken = &off
	for _, list := range [][]v1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			c := &list[i]
			if c.TerminationMessagePath == "" {
				c.TerminationMessagePath = v1.TerminationMessagePathDefault
			}
			if c.TerminationMessagePolicy == "" {
				c.TerminationMessagePolicy = v1.TerminationMessageReadFile
			}
			for j := range c.Ports {
				if c.Ports[j].Protocol == "" {
					c.Ports[j].Protocol = v1.ProtocolTCP
				}
				if spec.HostNetwork && c.Ports[j].HostPort == 0 {
					c.Ports[j].HostPort = c.Ports[j].ContainerPort
				}
			}
			for _, p := range []*v1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
				probeDefaults(p)
			}
			for name, q := range c.Resources.Limits {
				if _, ok := c.Resources.Requests[name]; !ok {
					if c.Resources.Requests == nil {
						c.Resources.Requests = v1.ResourceList{}
					}
					c.Resources.Requests[name] = q
				}
			}
		}
	}
}

func probeDefaults(p *v1.Probe) {
	if p == nil {
		return
	}
	for field, value := range map[*int32]int32{&p.TimeoutSeconds: 1, &p.PeriodSeconds: 10, &p.SuccessThreshold: 1, &p.FailureThreshold: 3} {
		if *field == 0 {
			*field = value
		}
	}
	if p.HTTPGet != nil && p.HTTPGet.Scheme == "" {
		p.HTTPGet.Scheme = v1.URISchemeHTTP
	}
}

// setMirror takes a version of a static pod's API object.
func (k *Kubelet) setMirror(mirror *v1.Pod) {
	k.mu.Lock()
	var uid types.UID
	fresh := false
	for id, r := range k.records {
		if r.static && !r.removed && fullName(r.pod) == fullName(mirror) {
			uid, fresh = id, r.mirror == nil || r.mirror.UID != mirror.UID
			r.mirror = mirror
		}
	}
	ready := k.sourcesReady
	k.mu.Unlock()
	switch {
	case uid != "":
		if fresh {
			k.status.Resend(uid)
		} else {
			k.status.Poke(uid)
		}
		k.workers.Notify(uid)
		if mirror.DeletionTimestamp != nil {
			k.dropMirror(mirror)
		}
	case ready:
		k.dropMirror(mirror)
	}
}

// mirrorPause is how long a static pod stays without a mirror that was deleted. Who
// deletes one and waits for its end, as kubectl does, looks again by its name and would
// wait for the end of the next one.
const mirrorPause = time.Second

func (k *Kubelet) removeMirror(mirror *v1.Pod) {
	k.mu.Lock()
	var uid types.UID
	for id, r := range k.records {
		if r.static && r.mirror != nil && r.mirror.UID == mirror.UID {
			r.mirror, r.mirrorGone, uid = nil, time.Now(), id
		}
	}
	k.mu.Unlock()
	if uid != "" {
		time.AfterFunc(mirrorPause, func() { k.workers.Notify(uid) })
	}
}

// dropMirror deletes an API object that mirrors nothing any more.
func (k *Kubelet) dropMirror(mirror *v1.Pod) {
	zero := int64(0)
	k.background.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := k.cfg.Client.CoreV1().Pods(mirror.Namespace).Delete(ctx, mirror.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(mirror.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			klog.Background().Info("Deleting a mirror pod failed", "pod", klog.KObj(mirror), "err", err)
		}
	})
}

// mirrorStep is what is to be done about the API object of a static pod.
type mirrorStep int

const (
	mirrorStays mirrorStep = iota
	mirrorGoes
	mirrorComes
)

func nextOfMirror(r *record, now time.Time) mirrorStep {
	switch m := r.mirror; {
	case m == nil && now.Sub(r.mirrorGone) < mirrorPause:
		return mirrorStays
	case m == nil:
		return mirrorComes
	case m.DeletionTimestamp != nil || m.Annotations[v1.MirrorPodAnnotationKey] != r.pod.Annotations[annotationHash]:
		return mirrorGoes
	}
	return mirrorStays
}

// ensureMirror makes the API object of a static pod what it is to be.
func (k *Kubelet) ensureMirror(ctx context.Context, r *record) error {
	hash := r.pod.Annotations[annotationHash]
	switch nextOfMirror(r, time.Now()) {
	case mirrorStays:
		return nil
	case mirrorGoes:
		return k.deleteMirror(ctx, r)
	}
	node := k.node.Node()
	if node == nil {
		// It comes once the node is registered; the pod need not wait.
		return nil
	}
	mirror := r.pod.DeepCopy()
	mirror.UID, mirror.ResourceVersion = "", ""
	mirror.Status = v1.PodStatus{}
	mirror.Annotations[v1.MirrorPodAnnotationKey] = hash
	controller := true
	mirror.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID, Controller: &controller}}
	got, err := k.cfg.Client.CoreV1().Pods(mirror.Namespace).Create(ctx, mirror, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		if have, getErr := k.cfg.Client.CoreV1().Pods(mirror.Namespace).Get(ctx, mirror.Name, metav1.GetOptions{}); getErr == nil && have.Annotations[v1.MirrorPodAnnotationKey] == hash {
			got, err = have, nil
		}
	}
	if err != nil {
		// The API server may be one of the static pods.
		klog.FromContext(ctx).Info("Failed creating a mirror pod", "pod", klog.KObj(mirror), "err", err)
		return nil
	}
	k.setMirror(got)
	return nil
}

func (k *Kubelet) deleteMirror(ctx context.Context, r *record) error {
	if r.mirror == nil {
		return nil
	}
	zero := int64(0)
	err := k.cfg.Client.CoreV1().Pods(r.mirror.Namespace).Delete(ctx, r.mirror.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(r.mirror.UID))})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete mirror pod: %w", err)
	}
	return nil
}
