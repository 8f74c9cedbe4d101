package conformance

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// volumeAndClaim are a volume and the one claim that fits it, of a class of
// the namespace's name, which need not exist.
func (s *space) volumeAndClaim(src corev1.PersistentVolumeSource) (*corev1.PersistentVolume, *corev1.PersistentVolumeClaim) {
	meta := metav1.ObjectMeta{GenerateName: "pv-", Labels: map[string]string{"skiff-test": s.name}}
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	return &corev1.PersistentVolume{ObjectMeta: meta, Spec: corev1.PersistentVolumeSpec{
			StorageClassName: s.name, AccessModes: modes, Capacity: size,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain, PersistentVolumeSource: src,
		}}, &corev1.PersistentVolumeClaim{ObjectMeta: meta, Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To(s.name), AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size},
		}}
}

// bind makes both and waits until each has the other.
func (s *space) bind(pv *corev1.PersistentVolume, pvc *corev1.PersistentVolumeClaim) (*corev1.PersistentVolume, *corev1.PersistentVolumeClaim) {
	s.t.Helper()
	c := s.protobuf().CoreV1()
	pv, err := c.PersistentVolumes().Create(s.ctx, pv, metav1.CreateOptions{})
	s.must(err)
	s.t.Cleanup(func() {
		if err := c.PersistentVolumes().Delete(s.ctx, pv.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			s.t.Error(err)
		}
	})
	pvc, err = c.PersistentVolumeClaims(s.name).Create(s.ctx, pvc, metav1.CreateOptions{})
	s.must(err)
	s.eventually(30*time.Second, "a bound volume and claim", func() error {
		if pv, err = c.PersistentVolumes().Get(s.ctx, pv.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		if pvc, err = c.PersistentVolumeClaims(s.name).Get(s.ctx, pvc.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		if pv.Status.Phase != corev1.VolumeBound || pvc.Status.Phase != corev1.ClaimBound || pvc.Spec.VolumeName != pv.Name {
			return fmt.Errorf("they are %s and %s", pv.Status.Phase, pvc.Status.Phase)
		}
		return nil
	})
	return pv, pvc
}

// csiSource is a volume that no driver serves.
func (s *space) csiSource() corev1.PersistentVolumeSource {
	return corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "driver-" + s.name, VolumeHandle: "handle"}}
}

// Conformance: [sig-storage] PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC
func TestStorageClaimLifecycle(t *testing.T) {
	s := parallel(t)
	c := s.protobuf().CoreV1()
	pvs, pvcs := c.PersistentVolumes(), c.PersistentVolumeClaims(s.name)
	selector := metav1.ListOptions{LabelSelector: "skiff-test=" + s.name}
	gone := func(what string) {
		t.Helper()
		s.eventually(time.Minute, what+" deleted", func() error {
			v, err := pvs.List(s.ctx, selector)
			s.must(err)
			p, err := pvcs.List(s.ctx, selector)
			s.must(err)
			if n, m := len(v.Items), len(p.Items); m > 0 || what == "both" && n > 0 {
				return fmt.Errorf("%d volumes and %d claims are left", n, m)
			}
			return nil
		})
	}
	pv, pvc := s.bind(s.volumeAndClaim(s.csiSource()))
	if list, err := pvs.List(s.ctx, selector); err != nil || len(list.Items) != 1 {
		t.Errorf("listed volumes %v: %v", list, err)
	}
	if list, err := pvcs.List(s.ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 1 {
		t.Errorf("listed claims %v: %v", list, err)
	}
	patch := []byte(`{"metadata":{"labels":{"patched":"true"}}}`)
	if got, err := pvs.Patch(s.ctx, pv.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil || got.Labels["patched"] != "true" {
		t.Errorf("patched volume %v: %v", got, err)
	}
	if got, err := pvcs.Patch(s.ctx, pvc.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil || got.Labels["patched"] != "true" {
		t.Errorf("patched claim %v: %v", got, err)
	}
	if got, err := pvs.Get(s.ctx, pv.Name, metav1.GetOptions{}); err != nil || got.UID != pv.UID {
		t.Errorf("got volume %v: %v", got, err)
	}
	if got, err := pvcs.Get(s.ctx, pvc.Name, metav1.GetOptions{}); err != nil || got.UID != pvc.UID {
		t.Errorf("got claim %v: %v", got, err)
	}
	s.must(pvcs.Delete(s.ctx, pvc.Name, metav1.DeleteOptions{}))
	gone("claim")
	s.eventually(30*time.Second, "a released volume", func() error {
		got, err := pvs.Get(s.ctx, pv.Name, metav1.GetOptions{})
		if err == nil && got.Status.Phase != corev1.VolumeReleased {
			err = fmt.Errorf("it is %s", got.Status.Phase)
		}
		return err
	})
	s.must(pvs.Delete(s.ctx, pv.Name, metav1.DeleteOptions{}))
	gone("both")

	pv, pvc = s.bind(s.volumeAndClaim(s.csiSource()))
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		o, err := pvs.Get(s.ctx, pv.Name, metav1.GetOptions{})
		s.must(err)
		o.Labels["updated"] = "true"
		if o, err = pvs.Update(s.ctx, o, metav1.UpdateOptions{}); err == nil && o.Labels["updated"] != "true" {
			t.Errorf("labels of the updated volume: %v", o.Labels)
		}
		return err
	}))
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		o, err := pvcs.Get(s.ctx, pvc.Name, metav1.GetOptions{})
		s.must(err)
		o.Labels["updated"] = "true"
		if o, err = pvcs.Update(s.ctx, o, metav1.UpdateOptions{}); err == nil && o.Labels["updated"] != "true" {
			t.Errorf("labels of the updated claim: %v", o.Labels)
		}
		return err
	}))
	if list, err := c.PersistentVolumeClaims(metav1.NamespaceAll).List(s.ctx, selector); err != nil || len(list.Items) != 1 {
		t.Errorf("claims of all namespaces: %v: %v", list, err)
	}
	s.must(pvcs.DeleteCollection(s.ctx, metav1.DeleteOptions{}, selector))
	gone("claim")
	s.must(pvs.DeleteCollection(s.ctx, metav1.DeleteOptions{}, selector))
	gone("both")
}

// Conformance: [sig-storage] PersistentVolumes CSI Conformance should apply changes to a pv/pvc status
func TestStorageClaimStatus(t *testing.T) {
	s := parallel(t)
	c := s.protobuf().CoreV1()
	pvs, pvcs := c.PersistentVolumes(), c.PersistentVolumeClaims(s.name)
	pv, pvc := s.bind(s.volumeAndClaim(s.csiSource()))
	readPVC, readPV := &corev1.PersistentVolumeClaim{}, &corev1.PersistentVolume{}
	s.must(c.RESTClient().Get().Resource("persistentvolumeclaims").Namespace(s.name).Name(pvc.Name).SubResource("status").Do(s.ctx).Into(readPVC))
	s.must(c.RESTClient().Get().Resource("persistentvolumes").Name(pv.Name).SubResource("status").Do(s.ctx).Into(readPV))
	if readPVC.Status.Phase != corev1.ClaimBound || readPV.Status.Phase != corev1.VolumeBound {
		t.Errorf("phases %q and %q", readPVC.Status.Phase, readPV.Status.Phase)
	}
	has := func(what string, p *corev1.PersistentVolumeClaim, kind corev1.PersistentVolumeClaimConditionType) {
		t.Helper()
		for _, c := range p.Status.Conditions {
			if c.Type == kind && c.Status == corev1.ConditionTrue {
				return
			}
		}
		t.Errorf("%s: conditions %v have no %s", what, p.Status.Conditions, kind)
	}
	says := func(what string, v *corev1.PersistentVolume, reason, message string) {
		t.Helper()
		if v.Status.Reason != reason || v.Status.Message != message {
			t.Errorf("%s: reason %q, message %q", what, v.Status.Reason, v.Status.Message)
		}
	}
	pvc, err := pvcs.Patch(s.ctx, pvc.Name, types.MergePatchType, []byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True","reason":"E2E patchStatus"}]}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	has("patched", pvc, "StatusPatched")
	pv, err = pvs.Patch(s.ctx, pv.Name, types.MergePatchType, []byte(`{"status":{"message":"StatusPatched","reason":"E2E patchStatus"}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	says("patched", pv, "E2E patchStatus", "StatusPatched")

	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		o, err := pvcs.Get(s.ctx, pvc.Name, metav1.GetOptions{})
		s.must(err)
		o.Status.Conditions = append(o.Status.Conditions, corev1.PersistentVolumeClaimCondition{Type: "StatusUpdate", Status: corev1.ConditionTrue, Reason: "E2E updateStatus"})
		if o, err = pvcs.UpdateStatus(s.ctx, o, metav1.UpdateOptions{}); err == nil {
			has("updated", o, "StatusUpdate")
		}
		return err
	}))
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		o, err := pvs.Get(s.ctx, pv.Name, metav1.GetOptions{})
		s.must(err)
		o.Status.Message, o.Status.Reason = "StatusUpdate", "E2E updateStatus"
		if o, err = pvs.UpdateStatus(s.ctx, o, metav1.UpdateOptions{}); err == nil {
			says("updated", o, "E2E updateStatus", "StatusUpdate")
		}
		return err
	}))
	// The binder leaves alone what it did not write, also when it looks again.
	pv, err = pvs.Patch(s.ctx, pv.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"touched":"true"}}}`), metav1.PatchOptions{})
	s.must(err)
	s.must(pvcs.Delete(s.ctx, pvc.Name, metav1.DeleteOptions{}))
	s.eventually(30*time.Second, "a released volume", func() error {
		if pv.Status.Phase == corev1.VolumeBound {
			says("still bound", pv, "E2E updateStatus", "StatusUpdate")
		}
		if pv, err = pvs.Get(s.ctx, pv.Name, metav1.GetOptions{}); err == nil && pv.Status.Phase != corev1.VolumeReleased {
			err = fmt.Errorf("it is %s", pv.Status.Phase)
		}
		return err
	})
}
