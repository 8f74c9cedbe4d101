package podcontrol

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
)

// Owner is the object that a pod is made for.
type Owner interface {
	metav1.Object
	runtime.Object
}

// FromTemplate makes the pod of a template; its name is generated from prefix.
func FromTemplate(t *v1.PodTemplateSpec, prefix string, owner *metav1.OwnerReference) *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Labels:       maps.Clone(t.Labels),
			Annotations:  maps.Clone(t.Annotations),
			GenerateName: GenerateName(prefix),
			Finalizers:   slices.Clone(t.Finalizers),
		},
		Spec: *t.Spec.DeepCopy(),
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	if owner != nil {
		pod.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return pod
}

// GenerateName is the owner's name with a dash where that makes a valid prefix.
func GenerateName(name string) string {
	prefix := name + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) != 0 {
		return name
	}
	return prefix
}

// Control creates and deletes pods and tells about it in events on the owner.
type Control struct {
	Client kubernetes.Interface
	Events record.EventRecorder
}

// Create makes the pod and returns what the server stored.
func (c Control) Create(ctx context.Context, namespace string, pod *v1.Pod, owner Owner) (*v1.Pod, error) {
	if len(pod.Labels) == 0 {
		return nil, errors.New("unable to create pods, no labels")
	}
	made, err := c.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		if !apierrors.HasStatusCause(err, v1.NamespaceTerminatingCause) {
			c.Events.Eventf(owner, v1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		}
		return nil, err
	}
	klog.FromContext(ctx).V(4).Info("Created pod", "owner", klog.KObj(owner), "pod", klog.KObj(made))
	c.Events.Eventf(owner, v1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", made.Name)
	return made, nil
}

// Delete removes the pod; one that is already gone is reported as NotFound.
func (c Control) Delete(ctx context.Context, namespace, name string, owner Owner) error {
	err := c.Client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return err
	case err != nil:
		c.Events.Eventf(owner, v1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return fmt.Errorf("unable to delete pods: %w", err)
	}
	c.Events.Eventf(owner, v1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", name)
	return nil
}

// SlowStart calls f count times, in batches that double while all succeed, so
// that a quota or admission refusal costs one request and not count. It
// returns how many succeeded.
func SlowStart(count, first int, f func(i int) error) (int, error) {
	done := 0
	for batch := min(count, first); batch > 0; batch = min(2*batch, count-done) {
		failures := make([]error, batch)
		var wg sync.WaitGroup
		for i := range batch {
			wg.Go(func() { failures[i] = f(done + i) })
		}
		wg.Wait()
		ok := 0
		for _, err := range failures {
			if err == nil {
				ok++
			}
		}
		done += ok
		if ok < batch {
			return done, errors.Join(failures...)
		}
	}
	return done, nil
}
