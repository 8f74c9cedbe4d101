package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

func (s *space) budgetIs(what string, is func(*policyv1.PodDisruptionBudget) bool) *policyv1.PodDisruptionBudget {
	s.t.Helper()
	var b *policyv1.PodDisruptionBudget
	s.eventually(60*time.Second, "the budget "+what, func() (err error) {
		if b, err = s.client.PolicyV1().PodDisruptionBudgets(s.name).Get(s.ctx, "budget", metav1.GetOptions{}); err != nil {
			return err
		}
		if b.Status.ObservedGeneration < b.Generation || !is(b) {
			return fmt.Errorf("generation %d: %+v", b.Generation, b.Status)
		}
		return nil
	})
	return b
}

func (s *space) updateBudget(change func(*policyv1.PodDisruptionBudget)) {
	s.t.Helper()
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		b, err := s.client.PolicyV1().PodDisruptionBudgets(s.name).Get(s.ctx, "budget", metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(b)
		_, err = s.client.PolicyV1().PodDisruptionBudgets(s.name).Update(s.ctx, b, metav1.UpdateOptions{})
		return err
	}))
}

// budgeted makes n running pods and a budget of the least to be kept.
func (s *space) budgeted(n int, least int) {
	s.t.Helper()
	for i := range n {
		p := probePod(fmt.Sprintf("app-%d", i))
		p.Labels["app"] = "app"
		s.pod(p)
	}
	s.running("app", n)
	_, err := s.client.PolicyV1().PodDisruptionBudgets(s.name).Create(s.ctx, budget("budget", least), metav1.CreateOptions{})
	s.must(err)
}

// Conformance: [sig-apps] DisruptionController should create a PodDisruptionBudget
func TestAppsBudget(t *testing.T) {
	s := parallel(t)
	budgets := s.client.PolicyV1().PodDisruptionBudgets(s.name)
	b := budget("budget", 0)
	percent := intstr.FromString("1%")
	b.Spec.MinAvailable = &percent
	_, err := budgets.Create(s.ctx, b, metav1.CreateOptions{})
	s.must(err)
	s.budgetIs("observed", func(*policyv1.PodDisruptionBudget) bool { return true })
	s.updateBudget(func(b *policyv1.PodDisruptionBudget) { b.Spec.MinAvailable = ptr.To(intstr.FromString("2%")) })
	b = s.budgetIs("updated", func(b *policyv1.PodDisruptionBudget) bool { return b.Spec.MinAvailable.StrVal == "2%" })
	old := b.ResourceVersion
	patched, err := budgets.Patch(s.ctx, "budget", types.StrategicMergePatchType, s.json(map[string]any{"spec": map[string]any{"minAvailable": "3%"}}), metav1.PatchOptions{})
	s.must(err)
	if patched.Spec.MinAvailable.StrVal != "3%" || patched.ResourceVersion == old {
		t.Errorf("the patched budget is %+v", patched.Spec)
	}
	s.must(budgets.Delete(s.ctx, "budget", metav1.DeleteOptions{}))
	s.gone("the budget", func() error {
		_, err := budgets.Get(s.ctx, "budget", metav1.GetOptions{})
		return err
	})
}

// Conformance: [sig-apps] DisruptionController should observe PodDisruptionBudget status updated
func TestAppsBudgetStatus(t *testing.T) {
	s := parallel(t)
	s.budgeted(3, 1)
	b := s.budgetIs("allows two disruptions", func(b *policyv1.PodDisruptionBudget) bool { return b.Status.DisruptionsAllowed == 2 })
	if st := b.Status; st.CurrentHealthy != 3 || st.DesiredHealthy != 1 || st.ExpectedPods != 3 {
		t.Errorf("the status is %+v", st)
	}
	if !slices.ContainsFunc(b.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == policyv1.DisruptionAllowedCondition && c.Status == metav1.ConditionTrue && c.Reason == policyv1.SufficientPodsReason
	}) {
		t.Errorf("the conditions are %+v", b.Status.Conditions)
	}
}

// Conformance: [sig-apps] DisruptionController should update/patch PodDisruptionBudget status
func TestAppsBudgetStatusWrites(t *testing.T) {
	s := parallel(t)
	s.budgeted(2, 1)
	s.budgetIs("allows a disruption", func(b *policyv1.PodDisruptionBudget) bool { return b.Status.DisruptionsAllowed == 1 })
	budgets := s.client.PolicyV1().PodDisruptionBudgets(s.name)
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		b, err := budgets.Get(s.ctx, "budget", metav1.GetOptions{})
		if err != nil {
			return err
		}
		b.Status.DisruptedPods = map[string]metav1.Time{"app-0": metav1.Now()}
		b, err = budgets.UpdateStatus(s.ctx, b, metav1.UpdateOptions{})
		if err == nil && len(b.Status.DisruptedPods) != 1 {
			err = fmt.Errorf("the updated status is %+v", b.Status)
		}
		return err
	}))
	s.budgetIs("has the disrupted pod", func(b *policyv1.PodDisruptionBudget) bool {
		_, ok := b.Status.DisruptedPods["app-0"]
		return ok
	})
	patched, err := budgets.Patch(s.ctx, "budget", types.MergePatchType, []byte(`{"status":{"disruptedPods":null}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	if len(patched.Status.DisruptedPods) != 0 {
		t.Errorf("the patched status is %+v", patched.Status)
	}
}

// Conformance: [sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it
func TestAppsBudgetBlocksEviction(t *testing.T) {
	s := parallel(t)
	s.budgeted(3, 3)
	s.budgetIs("counts three pods", func(b *policyv1.PodDisruptionBudget) bool { return b.Status.CurrentHealthy == 3 })
	evict := func() error {
		return s.client.CoreV1().Pods(s.name).EvictV1(s.ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "app-0", Namespace: s.name}})
	}
	refused := func() {
		t.Helper()
		err := evict()
		if !apierrors.IsTooManyRequests(err) || !apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) ||
			!strings.Contains(err.Error(), "Cannot evict pod as it would violate the pod's disruption budget.") {
			t.Errorf("the eviction says %v, want a refusal by the budget", err)
		}
	}
	refused()
	s.updateBudget(func(b *policyv1.PodDisruptionBudget) { b.Spec.MinAvailable = ptr.To(portNumber(2)) })
	s.budgetIs("allows a disruption", func(b *policyv1.PodDisruptionBudget) bool { return b.Status.DisruptionsAllowed == 1 })
	s.must(evict())
	s.gone("the evicted pod", func() error {
		_, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "app-0", metav1.GetOptions{})
		return err
	})
	p := probePod("app-0")
	p.Labels["app"] = "app"
	s.ready(p)
	_, err := s.client.PolicyV1().PodDisruptionBudgets(s.name).Patch(s.ctx, "budget", types.StrategicMergePatchType, []byte(`{"spec":{"minAvailable":3}}`), metav1.PatchOptions{})
	s.must(err)
	s.budgetIs("allows none", func(b *policyv1.PodDisruptionBudget) bool {
		return b.Status.CurrentHealthy == 3 && b.Status.DisruptionsAllowed == 0
	})
	refused()
	// Without the budget nothing is in the way.
	s.must(s.client.PolicyV1().PodDisruptionBudgets(s.name).Delete(s.ctx, "budget", metav1.DeleteOptions{}))
	s.eventually(10*time.Second, "the eviction", evict)
	s.gone("the evicted pod", func() error {
		_, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "app-0", metav1.GetOptions{})
		return err
	})
}
