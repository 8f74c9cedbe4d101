package conformance

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// Conformance: [sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota.
// Conformance: [sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota
func TestAPIQuotaLife(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().ResourceQuotas(s.name)
	s.quota("quota", map[string]string{"cpu": "500m", "memory": "500Mi"})
	label := metav1.ListOptions{LabelSelector: "test=" + s.name}
	all, err := s.client.CoreV1().ResourceQuotas("").List(s.ctx, label)
	s.must(err)
	equal(s, "the number in all namespaces", 1, len(all.Items))
	q := &all.Items[0]
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if q, err = c.Get(s.ctx, "quota", metav1.GetOptions{}); err != nil {
			return err
		}
		q.Spec.Hard = quantities(map[string]string{"cpu": "1", "memory": "1Gi"})
		q, err = c.Update(s.ctx, q, metav1.UpdateOptions{})
		return err
	}))
	equal(s, "the processors", "1", ptr.To(q.Spec.Hard["cpu"]).String())
	equal(s, "the memory", "1Gi", ptr.To(q.Spec.Hard["memory"]).String())
	q, err = c.Patch(s.ctx, "quota", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"quota":"patched"}},"spec":{"hard":{"memory":"750Mi"}}}`), metav1.PatchOptions{})
	s.must(err)
	equal(s, "the label and the memory", "patched 750Mi", q.Labels["quota"]+" "+ptr.To(q.Spec.Hard["memory"]).String())
	s.must(c.DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "quota=patched"}))
	s.eventually(10*time.Second, "the quota is gone", func() error {
		if _, err := c.Get(s.ctx, "quota", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("get: %v", err)
		}
		return nil
	})
	s.quota("quota", map[string]string{"cpu": "500m"})
	s.must(c.Delete(s.ctx, "quota", metav1.DeleteOptions{}))
	if _, err := c.Get(s.ctx, "quota", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get after delete: %v", err)
	}
}

// Conformance: [sig-api-machinery] ResourceQuota should apply changes to a resourcequota status
func TestAPIQuotaStatus(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().ResourceQuotas(s.name)
	s.quota("quota", map[string]string{"cpu": "500m", "memory": "500Mi"})
	var q *corev1.ResourceQuota
	var err error
	w := s.watching(c.Watch(s.ctx, metav1.ListOptions{LabelSelector: "test=" + s.name}))
	hard := func(cpu, memory string) func(metav1.Object) bool {
		return func(o metav1.Object) bool {
			h := o.(*corev1.ResourceQuota).Status.Hard
			return h.Cpu().String() == cpu && h.Memory().String() == memory
		}
	}
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if q, err = c.Get(s.ctx, "quota", metav1.GetOptions{}); err != nil {
			return err
		}
		q.Status.Hard = quantities(map[string]string{"cpu": "1", "memory": "1Gi"})
		q, err = c.UpdateStatus(s.ctx, q, metav1.UpdateOptions{})
		return err
	}))
	if !hard("1", "1Gi")(q) {
		t.Errorf("the updated status is %+v", q.Status)
	}
	w.until("MODIFIED", "the updated status", hard("1", "1Gi"))
	// The controller puts it right again.
	w.until("MODIFIED", "the reconciled status", hard("500m", "500Mi"))

	q, err = c.Patch(s.ctx, "quota", types.StrategicMergePatchType, []byte(`{"spec":{"hard":{"cpu":"1","memory":"1Gi"}}}`), metav1.PatchOptions{})
	s.must(err)
	w.until("MODIFIED", "the reconciled status", hard("1", "1Gi"))
	q, err = c.Patch(s.ctx, "quota", types.StrategicMergePatchType, []byte(`{"metadata":{"annotations":{"patchedstatus":"true"}},"status":{"hard":{"cpu":"2","memory":"2Gi"}}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	if !hard("2", "2Gi")(q) || q.Spec.Hard.Cpu().String() != "1" || q.Spec.Hard.Memory().String() != "1Gi" {
		t.Errorf("the patched quota is %+v %+v", q.Spec, q.Status)
	}
	w.until("MODIFIED", "the patched status", hard("2", "2Gi"))
	w.until("MODIFIED", "the reconciled status", hard("1", "1Gi"))
	u, err := s.dynamic.Resource(corev1.SchemeGroupVersion.WithResource("resourcequotas")).Namespace(s.name).Get(s.ctx, "quota", metav1.GetOptions{}, "status")
	s.must(err)
	equal(s, "the status read by itself", any("1"), at(u, "status", "hard", "cpu"))
	q, err = c.Patch(s.ctx, "quota", types.StrategicMergePatchType, []byte(`{"status":{"hard":{"cpu":"3"}}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	equal(s, "the spec after a patch of the status", "1", q.Spec.Hard.Cpu().String())
}
