// Package replicationcontroller serves ReplicationControllers, the elder kind
// of ReplicaSets, with the same code.
package replicationcontroller

import (
	"context"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"skiff/controllers/loop"
	"skiff/controllers/replicaset"
)

// Config is what the controller needs.
type Config struct {
	loop.Parts
}

// New checks the configuration and makes the controller.
func New(c Config) (*replicaset.Controller, error) {
	parts, err := c.Complete("replicationcontroller")
	if err != nil {
		return nil, err
	}
	rcs := parts.Informers.Core().V1().ReplicationControllers()
	return replicaset.NewFlavor(parts, replicaset.Flavor{
		Name:     "replicationcontroller",
		GVK:      v1.SchemeGroupVersion.WithKind("ReplicationController"),
		Informer: rcs.Informer(),
		View: func(obj any) (replicaset.Replicas, bool) {
			rc, ok := obj.(*v1.ReplicationController)
			if !ok {
				return replicaset.Replicas{}, false
			}
			return replicaset.Replicas{Set: AsReplicaSet(rc), Owner: rc}, true
		},
		Get: func(namespace, name string) (any, error) {
			return rcs.Lister().ReplicationControllers(namespace).Get(name)
		},
		List: func(namespace string) []any {
			all, err := rcs.Lister().ReplicationControllers(namespace).List(labels.Everything())
			if err != nil {
				return nil
			}
			out := make([]any, len(all))
			for i, rc := range all {
				out[i] = rc
			}
			return out
		},
		Fresh: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return parts.Client.CoreV1().ReplicationControllers(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		UpdateStatus: func(ctx context.Context, r replicaset.Replicas, s apps.ReplicaSetStatus) (*apps.ReplicaSet, error) {
			rc := r.Owner.(*v1.ReplicationController)
			status := statusOf(s)
			if equality.Semantic.DeepEqual(rc.Status, status) {
				return r.Set, nil
			}
			next := rc.DeepCopy()
			next.Status = status
			updated, err := parts.Client.CoreV1().ReplicationControllers(rc.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
			if err != nil {
				return nil, err
			}
			return AsReplicaSet(updated), nil
		},
	})
}

// AsReplicaSet shows a ReplicationController as the ReplicaSet that behaves
// the same. It shares no memory that the controller writes to.
func AsReplicaSet(rc *v1.ReplicationController) *apps.ReplicaSet {
	rs := &apps.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: apps.ReplicaSetSpec{
			Replicas:        ptr.To(ptr.Deref(rc.Spec.Replicas, 1)),
			MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector:        metav1.SetAsLabelSelector(rc.Spec.Selector),
		},
		Status: apps.ReplicaSetStatus{
			Replicas:             rc.Status.Replicas,
			FullyLabeledReplicas: rc.Status.FullyLabeledReplicas,
			ReadyReplicas:        rc.Status.ReadyReplicas,
			AvailableReplicas:    rc.Status.AvailableReplicas,
			ObservedGeneration:   rc.Status.ObservedGeneration,
		},
	}
	if rc.Spec.Template != nil {
		rs.Spec.Template = *rc.Spec.Template
	}
	for _, c := range rc.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, apps.ReplicaSetCondition{
			Type: apps.ReplicaSetConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return rs
}

func statusOf(s apps.ReplicaSetStatus) v1.ReplicationControllerStatus {
	out := v1.ReplicationControllerStatus{
		Replicas:             s.Replicas,
		FullyLabeledReplicas: s.FullyLabeledReplicas,
		ReadyReplicas:        s.ReadyReplicas,
		AvailableReplicas:    s.AvailableReplicas,
		ObservedGeneration:   s.ObservedGeneration,
	}
	for _, c := range s.Conditions {
		out.Conditions = append(out.Conditions, v1.ReplicationControllerCondition{
			Type: v1.ReplicationControllerConditionType(c.Type), Status: c.Status,
			LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message,
		})
	}
	return out
}
