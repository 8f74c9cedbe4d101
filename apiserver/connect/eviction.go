package connect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"

	"skiff/apiserver/handlers"
)

var evictionKind = policyv1.SchemeGroupVersion.WithKind("Eviction")

// maxDisruptedPods bounds the evictions that a budget has not yet accounted for.
const maxDisruptedPods = 2000

// evictionRetry is how long writes of others are stepped around.
var evictionRetry = wait.Backoff{Steps: 20, Duration: 500 * time.Microsecond, Factor: 1.0, Jitter: 0.1}

// eviction deletes a pod where its disruption budget allows it.
func (c *connectors) eviction(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	e := &policyv1.Eviction{}
	err := c.API.ReadInto(r, evictionKind, e)
	if err == nil {
		err = c.evict(r.Context(), t, e, dryRunOf(r))
	}
	if err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	c.success(w, r, http.StatusCreated)
}

func (c *connectors) evict(ctx context.Context, t *handlers.Target, e *policyv1.Eviction, dryRun []string) error {
	if e.Name == "" {
		e.Name = t.Name
	}
	if e.Name != t.Name {
		return apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	if e.DeleteOptions == nil {
		e.DeleteOptions = &metav1.DeleteOptions{}
	}
	if len(dryRun) > 0 {
		e.DeleteOptions.DryRun = dryRun
	}
	e.Namespace = t.Namespace
	asked := len(dryRun) > 0
	dry := len(e.DeleteOptions.DryRun) > 0
	if _, err := c.API.AdmitCreate(ctx, t, e, &metav1.CreateOptions{DryRun: dryRun}, asked); err != nil {
		return err
	}
	err := retry.OnError(evictionRetry, apierrors.IsConflict, func() error { return c.evictOnce(ctx, t, e, dry) })
	if apierrors.IsConflict(err) && e.DeleteOptions.Preconditions == nil {
		return apierrors.NewTooManyRequests(fmt.Sprintf("couldn't update PodDisruptionBudget of pod %q due to conflicts: %v", t.Name, err), 10)
	}
	return err
}

func (c *connectors) evictOnce(ctx context.Context, t *handlers.Target, e *policyv1.Eviction, dry bool) error {
	pods := c.Client.CoreV1().Pods(t.Namespace)
	pod, err := pods.Get(ctx, t.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	o := *e.DeleteOptions.DeepCopy()
	o.TypeMeta = metav1.TypeMeta{}
	if !ignoresBudget(pod) {
		pdbs, err := c.budgets(ctx, pod)
		if err != nil {
			return err
		}
		if len(pdbs) > 1 {
			return &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError,
				Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
			}}
		}
		if len(pdbs) == 1 {
			pdb := &pdbs[0]
			if unhealthyMayGo(pod, pdb) {
				// The pod must not have become ready meanwhile.
				if o.Preconditions == nil {
					o.Preconditions = &metav1.Preconditions{}
				}
				if o.Preconditions.ResourceVersion == nil {
					o.Preconditions.ResourceVersion = &pod.ResourceVersion
				}
			} else if err := c.spend(ctx, pdb, pod.Name, dry); err != nil {
				return err
			}
		}
	}
	if !dry && pod.DeletionTimestamp == nil {
		if rv, err := c.markEvicted(ctx, pod); err != nil {
			return err
		} else if o.Preconditions != nil && o.Preconditions.ResourceVersion != nil && *o.Preconditions.ResourceVersion == pod.ResourceVersion {
			o.Preconditions.ResourceVersion = &rv
		}
	}
	err = pods.Delete(ctx, pod.Name, o)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// ignoresBudget: a pod that serves nobody yet, or no more, disrupts nothing.
func ignoresBudget(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return true
	}
	return pod.DeletionTimestamp != nil
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// unhealthyMayGo tells whether a pod that is not ready goes without the budget.
func unhealthyMayGo(pod *corev1.Pod, pdb *policyv1.PodDisruptionBudget) bool {
	if podReady(pod) {
		return false
	}
	if p := pdb.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return pdb.Status.CurrentHealthy >= pdb.Status.DesiredHealthy && pdb.Status.DesiredHealthy > 0
}

func (c *connectors) budgets(ctx context.Context, pod *corev1.Pod) ([]policyv1.PodDisruptionBudget, error) {
	list, err := c.Client.PolicyV1().PodDisruptionBudgets(pod.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []policyv1.PodDisruptionBudget
	for _, pdb := range list.Items {
		sel, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
		if err == nil && sel.Matches(labels.Set(pod.Labels)) {
			out = append(out, pdb)
		}
	}
	return out, nil
}

// spend takes one disruption out of the budget.
func (c *connectors) spend(ctx context.Context, pdb *policyv1.PodDisruptionBudget, pod string, dry bool) error {
	if err := allowed(pdb); err != nil {
		return err
	}
	if dry {
		return nil
	}
	st := &pdb.Status
	st.DisruptionsAllowed--
	if st.DisruptionsAllowed == 0 {
		meta.SetStatusCondition(&st.Conditions, metav1.Condition{
			Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason, ObservedGeneration: st.ObservedGeneration,
		})
	}
	if st.DisruptedPods == nil {
		st.DisruptedPods = map[string]metav1.Time{}
	}
	// The controller gives the disruption back when the pod is not deleted in time.
	st.DisruptedPods[pod] = metav1.Now()
	_, err := c.Client.PolicyV1().PodDisruptionBudgets(pdb.Namespace).UpdateStatus(ctx, pdb, metav1.UpdateOptions{})
	return err
}

func allowed(pdb *policyv1.PodDisruptionBudget) error {
	gr := policyv1.Resource("poddisruptionbudget")
	st := &pdb.Status
	switch {
	case st.ObservedGeneration < pdb.Generation:
		return tooMany(10, fmt.Sprintf("The disruption budget %s is still being processed by the server.", pdb.Name))
	case st.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(gr, pdb.Name, errors.New("pdb disruptions allowed is negative"))
	case len(st.DisruptedPods) > maxDisruptedPods:
		return apierrors.NewForbidden(gr, pdb.Name, errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case st.DisruptionsAllowed == 0:
		text := fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", pdb.Name, st.DesiredHealthy, st.CurrentHealthy)
		if cond := meta.FindStatusCondition(st.Conditions, policyv1.DisruptionAllowedCondition); cond != nil && cond.Reason == policyv1.SyncFailedReason {
			text = fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %v", pdb.Name, cond.Message)
		}
		return tooMany(0, text)
	}
	return nil
}

func tooMany(seconds int, cause string) error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", seconds)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: cause})
	return err
}

// markEvicted writes why the pod ends. It returns the pod's new version.
func (c *connectors) markEvicted(ctx context.Context, pod *corev1.Pod) (string, error) {
	next := pod.DeepCopy()
	setPodCondition(next, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
	})
	out, err := c.Client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return "", err
	}
	return out.ResourceVersion, nil
}
