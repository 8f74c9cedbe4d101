package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// claimed is the volume of a claim.
func claimed(name string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

// localVolume is a claim bound to a folder or device of the first node.
func (s *space) localVolume(path string, mode corev1.PersistentVolumeMode) *corev1.PersistentVolumeClaim {
	s.t.Helper()
	nodes, err := s.client.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	s.must(err)
	pv, pvc := s.volumeAndClaim(corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}})
	pv.Spec.VolumeMode, pvc.Spec.VolumeMode = &mode, &mode
	pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{nodes.Items[0].Labels[corev1.LabelHostname]}}},
	}}}}
	_, pvc = s.bind(pv, pvc)
	return pvc
}

// device makes a block device out of a file.
func (s *space) device() string {
	s.t.Helper()
	file := filepath.Join(s.onHost(), "disk")
	s.must(os.WriteFile(file, nil, 0o600))
	s.must(os.Truncate(file, 16<<20))
	out, err := exec.Command("losetup", "-f", "--show", file).CombinedOutput()
	if err != nil {
		s.t.Skipf("no loop device: %v: %s", err, out)
	}
	loop := strings.TrimSpace(string(out))
	s.t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", loop).CombinedOutput(); err != nil {
			s.t.Errorf("%v: %s", err, out)
		}
	})
	return loop
}

// end deletes a pod and waits until it is gone.
func (s *space) end(name string) {
	s.t.Helper()
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)}))
	s.eventually(time.Minute, "the end of pod "+name, func() error {
		_, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err == nil {
			return fmt.Errorf("it is there")
		}
		return client404(err)
	})
}

// A device of the node goes into a pod as it is, and what is written to it
// outlives the pod.
//
// Covers: node.volumes-local
func TestStorageLocalBlock(t *testing.T) {
	s := parallel(t)
	pvc := s.localVolume(s.device(), corev1.PersistentVolumeBlock)
	p := shellPod("writer", "[ -b /dev/xvda ] && echo -n persistent | dd of=/dev/xvda conv=fsync 2>/dev/null")
	p.Spec.Volumes = []corev1.Volume{{Name: "disk", VolumeSource: claimed(pvc.Name)}}
	p.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "disk", DevicePath: "/dev/xvda"}}
	s.output(p)
	s.end("writer")
	p.Name, p.Spec.Containers[0].Command[2] = "reader", "dd if=/dev/xvda bs=10 count=1 2>/dev/null"
	p.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
	if out := strings.TrimSpace(s.output(p)); out != "persistent" {
		t.Errorf("the next pod reads %q", out)
	}
	s.end("reader")
	p.Name, p.Spec.Containers[0].Command[2] = "refused", "dd if=/dev/zero of=/dev/xvda bs=10 count=1 2>&1; true"
	if out := s.output(p); !strings.Contains(out, "not permitted") {
		t.Errorf("writing to a read-only device says %q", out)
	}
}

// A device that a pod wants as a file system gets one the first time.
func TestStorageLocalDevice(t *testing.T) {
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip(err)
	}
	s := parallel(t)
	pvc := s.localVolume(s.device(), corev1.PersistentVolumeFilesystem)
	s.looks(as(mounted(probePod("writer", "create", "/data/f", "0600", "persistent"), "/data", claimed(pvc.Name)), 1000, 2000))
	s.end("writer")
	same(t, s.looks(as(mounted(probePod("reader", "look", "/data/f", "/data"), "/data", claimed(pvc.Name)), 1000, 2000)),
		seen{Path: "/data/f", Perm: "-rw-rw----", UID: 1000, GID: 2000, Content: "persistent"},
		seen{Path: "/data", Perm: "-rwxrwxr-x", SetGID: true, GID: 2000})
	s.end("reader")
	b, err := os.ReadFile("/proc/self/mounts")
	s.must(err)
	if strings.Contains(string(b), pvc.Spec.VolumeName) {
		t.Errorf("%s is still mounted after its pods", pvc.Spec.VolumeName)
	}
}

func TestStorageFSGroupChangePolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		policy    *corev1.PodFSGroupChangePolicy
		rootFits  bool
		wantGroup int64
	}{
		"unset":            {nil, true, 2000},
		"always":           {ptr.To(corev1.FSGroupChangeAlways), true, 2000},
		"on-root-mismatch": {ptr.To(corev1.FSGroupChangeOnRootMismatch), false, 2000},
		"root-matches":     {ptr.To(corev1.FSGroupChangeOnRootMismatch), true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			dir := filepath.Join(s.onHost(), "data")
			s.must(os.MkdirAll(filepath.Join(dir, "d"), 0o755))
			s.must(os.WriteFile(filepath.Join(dir, "d/f"), nil, 0o600))
			outside := filepath.Join(s.onHost(), "outside")
			s.must(os.WriteFile(outside, nil, 0o600))
			s.must(os.Symlink(outside, filepath.Join(dir, "link")))
			if tc.rootFits {
				s.must(os.Chown(dir, 0, 2000))
				s.must(os.Chmod(dir, 0o770|os.ModeSetgid))
			}
			pvc := s.localVolume(dir, corev1.PersistentVolumeFilesystem)
			p := as(mounted(probePod("pod", "look", "/data/d/f"), "/data", claimed(pvc.Name)), 0, 2000)
			p.Spec.SecurityContext.FSGroupChangePolicy = tc.policy
			perm := "-rw-rw----"
			if tc.wantGroup == 0 {
				perm = "-rw-------"
			}
			same(t, s.looks(p), seen{Path: "/data/d/f", Perm: perm, GID: tc.wantGroup})
			if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("a link was followed out of the volume: %v %v", info, err)
			}
		})
	}
}

// class makes a class of the built-in provisioner.
func (s *space) class(edit func(*storagev1.StorageClass)) string {
	s.t.Helper()
	c := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: s.name}, Provisioner: "skiff.io/local-path",
		VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer), ReclaimPolicy: ptr.To(corev1.PersistentVolumeReclaimDelete)}
	edit(c)
	_, err := s.client.StorageV1().StorageClasses().Create(s.ctx, c, metav1.CreateOptions{})
	s.must(err)
	s.t.Cleanup(func() {
		if err := s.client.StorageV1().StorageClasses().Delete(s.ctx, c.Name, metav1.DeleteOptions{}); err != nil {
			s.t.Error(err)
		}
	})
	return c.Name
}

func (s *space) claim(name, class string) {
	s.t.Helper()
	_, err := s.client.CoreV1().PersistentVolumeClaims(s.name).Create(s.ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}, metav1.CreateOptions{})
	s.must(err)
}

// claimIs waits until a claim is as is says.
func (s *space) claimIs(name, what string, is func(*corev1.PersistentVolumeClaim) bool) *corev1.PersistentVolumeClaim {
	s.t.Helper()
	var last *corev1.PersistentVolumeClaim
	s.eventually(30*time.Second, "claim "+name+" "+what, func() error {
		c, err := s.client.CoreV1().PersistentVolumeClaims(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if last = c; !is(c) {
			return fmt.Errorf("it is %+v", c.Status)
		}
		return nil
	})
	return last
}

func boundClaim(c *corev1.PersistentVolumeClaim) bool { return c.Status.Phase == corev1.ClaimBound }

// Covers: node.volumes-local
func TestStorageProvisioner(t *testing.T) {
	for name, tc := range map[string]struct {
		policy corev1.PersistentVolumeReclaimPolicy
		mode   storagev1.VolumeBindingMode
	}{
		"delete":           {corev1.PersistentVolumeReclaimDelete, storagev1.VolumeBindingWaitForFirstConsumer},
		"retain":           {corev1.PersistentVolumeReclaimRetain, storagev1.VolumeBindingWaitForFirstConsumer},
		"delete-immediate": {corev1.PersistentVolumeReclaimDelete, storagev1.VolumeBindingImmediate},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.claim("c", s.class(func(c *storagev1.StorageClass) { c.ReclaimPolicy, c.VolumeBindingMode = &tc.policy, &tc.mode }))
			if tc.mode == storagev1.VolumeBindingImmediate {
				s.claimIs("c", "bound without a pod", boundClaim)
			} else if e := s.event("c", "Normal", "waiting for first consumer to be created before binding"); e.Reason != "WaitForFirstConsumer" {
				t.Errorf("the event's reason is %s", e.Reason)
			}
			s.looks(as(mounted(probePod("writer", "create", "/data/f", "0644", "persistent"), "/data", claimed("c")), 1000, 0))
			pvc := s.claimIs("c", "bound", boundClaim)
			pv, err := s.client.CoreV1().PersistentVolumes().Get(s.ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
			s.must(err)
			if pv.Spec.PersistentVolumeReclaimPolicy != tc.policy || pv.Spec.NodeAffinity == nil {
				t.Errorf("the volume is %+v", pv.Spec)
			}
			s.end("writer")
			same(t, s.looks(mounted(probePod("reader", "look", "/data/f"), "/data", claimed("c"))),
				seen{Path: "/data/f", Perm: "-rw-r--r--", UID: 1000, Content: "persistent"})

			// A claim in use stays until its pod has ended.
			s.ready(mounted(probePod("user", "serve"), "/data", claimed("c")))
			s.must(s.client.CoreV1().PersistentVolumeClaims(s.name).Delete(s.ctx, "c", metav1.DeleteOptions{}))
			if c := s.claimIs("c", "still there", boundClaim); c.DeletionTimestamp == nil {
				t.Error("the claim is not being deleted")
			}
			s.mustExec("user", "main", "/probe", "look", "/data/f")
			s.end("user")
			s.end("reader")
			path := pv.Spec.HostPath.Path
			s.eventually(30*time.Second, "what becomes of the volume", func() error {
				pv, err := s.client.CoreV1().PersistentVolumes().Get(s.ctx, pv.Name, metav1.GetOptions{})
				if tc.policy == corev1.PersistentVolumeReclaimRetain {
					if err == nil && pv.Status.Phase != corev1.VolumeReleased {
						err = fmt.Errorf("it is %s", pv.Status.Phase)
					}
					return err
				}
				if err == nil {
					return fmt.Errorf("it is there: %s", pv.Status.Phase)
				}
				return client404(err)
			})
			_, err = os.Stat(filepath.Join(path, "f"))
			if kept := err == nil; kept != (tc.policy == corev1.PersistentVolumeReclaimRetain) {
				t.Errorf("with policy %s the data is kept: %v", tc.policy, kept)
			}
			if tc.policy == corev1.PersistentVolumeReclaimRetain {
				s.must(s.client.CoreV1().PersistentVolumes().Delete(s.ctx, pv.Name, metav1.DeleteOptions{}))
				s.must(os.RemoveAll(path))
			}
		})
	}
}

// client404 is content with an answer that there is nothing.
func client404(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func TestStorageExpansion(t *testing.T) {
	s := parallel(t)
	s.claim("c", s.class(func(c *storagev1.StorageClass) { c.AllowVolumeExpansion = ptr.To(true) }))
	s.ready(mounted(probePod("pod", "serve"), "/data", claimed("c")))
	pvc := s.claimIs("c", "bound", boundClaim)
	_, err := s.client.CoreV1().PersistentVolumeClaims(s.name).Patch(s.ctx, "c", types.MergePatchType,
		[]byte(`{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`), metav1.PatchOptions{})
	s.must(err)
	want := resource.MustParse("2Gi")
	s.claimIs("c", "larger", func(c *corev1.PersistentVolumeClaim) bool {
		return c.Status.Capacity.Storage().Cmp(want) == 0 && len(c.Status.Conditions) == 0
	})
	pv, err := s.client.CoreV1().PersistentVolumes().Get(s.ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
	s.must(err)
	if pv.Spec.Capacity.Storage().Cmp(want) != 0 {
		t.Errorf("the volume has %v", pv.Spec.Capacity)
	}
	_, err = s.client.CoreV1().PersistentVolumeClaims(s.name).Patch(s.ctx, "c", types.MergePatchType,
		[]byte(`{"spec":{"resources":{"requests":{"storage":"1Gi"}}}}`), metav1.PatchOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("making it smaller: %v, want it refused as invalid", err)
	}
}

func TestStorageEphemeralVolume(t *testing.T) {
	s := parallel(t)
	src := func(class string) corev1.VolumeSource {
		return corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"of": "pod"}},
			Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}},
		}}}
	}
	class := s.class(func(*storagev1.StorageClass) {})
	s.claim("other-volume-0", class)
	s.pod(mounted(probePod("other", "serve"), "/data", src(class)))
	s.event("other", "Warning", "ephemeral volume volume-0: PVC "+s.name+"/other-volume-0 was not created for pod "+s.name+"/other (pod is not owner)")

	pod := s.ready(mounted(probePod("pod", "serve"), "/data", src(class)))
	pvc := s.claimIs("pod-volume-0", "bound", boundClaim)
	if !metav1.IsControlledBy(pvc, pod) || pvc.Labels["of"] != "pod" {
		t.Errorf("the claim is %+v", pvc.ObjectMeta)
	}
	s.mustExec("pod", "main", "/probe", "write", "/data/f", "x")
	s.end("pod")
	s.eventually(time.Minute, "the end of the claim with its pod", func() error {
		_, err := s.client.CoreV1().PersistentVolumeClaims(s.name).Get(s.ctx, pvc.Name, metav1.GetOptions{})
		if err == nil {
			return fmt.Errorf("it is there")
		}
		return client404(err)
	})
}
