package connect

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/handlers"
)

var bindingKind = corev1.SchemeGroupVersion.WithKind("Binding")

// binding puts a pod on a node: the scheduler's word.
func (c *connectors) binding(w http.ResponseWriter, r *http.Request, t *handlers.Target) {
	b := &corev1.Binding{}
	if err := c.API.ReadInto(r, bindingKind, b); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	if err := c.bind(r.Context(), t, b, dryRunOf(r)); err != nil {
		handlers.WriteError(w, r, err)
		return
	}
	c.success(w, r, http.StatusCreated)
}

func (c *connectors) bind(ctx context.Context, t *handlers.Target, b *corev1.Binding, dryRun []string) error {
	if t.Subresource == "" {
		t.Name = b.Name
	}
	if b.Name == "" {
		b.Name = t.Name
	}
	if b.Namespace == "" {
		b.Namespace = t.Namespace
	}
	if b.Name != t.Name {
		return apierrors.NewBadRequest("name in URL does not match name in Binding object")
	}
	if b.Namespace != t.Namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	dry := len(dryRun) > 0
	admitted, err := c.API.AdmitCreate(ctx, t, b, &metav1.CreateOptions{DryRun: dryRun}, dry)
	if err != nil {
		return err
	}
	b, ok := admitted.(*corev1.Binding)
	if !ok {
		return apierrors.NewInternalError(fmt.Errorf("admission made a %T of a Binding", admitted))
	}
	if errs := validateBinding(b); len(errs) > 0 {
		// Clients know these as plain errors, with code 500.
		return errs.ToAggregate()
	}
	pods, ok := c.API.Hub(schema.GroupResource{Resource: "pods"}, b.Namespace, b.Name)
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, b.Name)
	}
	conflict := func(text string) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods/binding"}, b.Name, fmt.Errorf("%s", text))
	}
	_, _, err = pods.Store.Update(ctx, b.Namespace, b.Name, false, func(_ context.Context, cur runtime.Object) (runtime.Object, error) {
		pod := cur.(*corev1.Pod)
		switch {
		case b.UID != "" && b.UID != pod.UID:
			return nil, conflict(fmt.Sprintf("Precondition failed: UID in precondition: %v, UID in object meta: %v", b.UID, pod.UID))
		case b.ResourceVersion != "" && b.ResourceVersion != pod.ResourceVersion:
			return nil, conflict(fmt.Sprintf("Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v", b.ResourceVersion, pod.ResourceVersion))
		case pod.DeletionTimestamp != nil:
			return nil, conflict(fmt.Sprintf("pod %s is being deleted, cannot be assigned to a host", pod.Name))
		case pod.Spec.NodeName != "":
			return nil, conflict(fmt.Sprintf("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName))
		case len(pod.Spec.SchedulingGates) > 0:
			return nil, conflict(fmt.Sprintf("pod %v has non-empty .spec.schedulingGates", pod.Name))
		}
		if dry {
			return nil, nil
		}
		assign(pod, b)
		return pod, nil
	})
	return err
}

// assign writes the node, and what the binding adds to the pod's metadata.
func assign(pod *corev1.Pod, b *corev1.Binding) {
	pod.Spec.NodeName = b.Target.Name
	if len(b.Annotations) > 0 && pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	for k, v := range b.Annotations {
		pod.Annotations[k] = v
	}
	if len(b.Labels) > 0 && pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	for k, v := range b.Labels {
		if _, has := pod.Labels[k]; !has || k == corev1.LabelTopologyZone || k == corev1.LabelTopologyRegion {
			pod.Labels[k] = v
		}
	}
	pod.Status.NominatedNodeName = ""
	setPodCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue})
}

// setPodCondition sets a condition, keeping the time where its status stays.
func setPodCondition(pod *corev1.Pod, cond corev1.PodCondition) {
	cond.LastTransitionTime = metav1.Now()
	cond.ObservedGeneration = 0
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == cond.Type })
	if i < 0 {
		pod.Status.Conditions = append(pod.Status.Conditions, cond)
		return
	}
	if pod.Status.Conditions[i].Status == cond.Status {
		cond.LastTransitionTime = pod.Status.Conditions[i].LastTransitionTime
	}
	pod.Status.Conditions[i] = cond
}

func validateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	if k := b.Target.Kind; k != "" && k != "Node" {
		errs = append(errs, field.NotSupported(field.NewPath("target", "kind"), k, []string{"Node", "<empty>"}))
	}
	at := field.NewPath("target", "name")
	if b.Target.Name == "" {
		return append(errs, field.Required(at, ""))
	}
	for _, msg := range apivalidation.NameIsDNSSubdomain(b.Target.Name, false) {
		errs = append(errs, field.Invalid(at, b.Target.Name, msg))
	}
	return errs
}
