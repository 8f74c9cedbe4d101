package conformance

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// controller makes a replication controller of probes and waits for its pods.
func (s *space) controller(name string, replicas int32) *corev1.ReplicationController {
	s.t.Helper()
	p := probePod(name, "serve")
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	rc, err := s.client.CoreV1().ReplicationControllers(s.name).Create(s.ctx, &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ReplicationControllerSpec{Replicas: &replicas, Selector: p.Labels, Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: p.Labels}, Spec: p.Spec,
		}},
	}, metav1.CreateOptions{})
	s.must(err)
	s.count(name, int(replicas))
	return rc
}

// count waits until there are so many pods with the label app.
func (s *space) count(app string, want int) []corev1.Pod {
	s.t.Helper()
	var list *corev1.PodList
	s.eventually(60*time.Second, fmt.Sprint(want, " pods of ", app), func() (err error) {
		list, err = s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err == nil && len(list.Items) != want {
			err = fmt.Errorf("there are %d", len(list.Items))
		}
		return err
	})
	return list.Items
}

// podsStay checks that for a while there are so many pods, none of them going.
func (s *space) podsStay(app string, want int, d time.Duration) {
	s.t.Helper()
	s.holds(d, "the pods of "+app+" stay", func() error {
		list, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return err
		}
		if len(list.Items) != want {
			return fmt.Errorf("%d are left, want %d", len(list.Items), want)
		}
		for _, p := range list.Items {
			if p.DeletionTimestamp != nil {
				return fmt.Errorf("pod %s is being deleted", p.Name)
			}
		}
		return nil
	})
}

func propagate(p metav1.DeletionPropagation, uid types.UID) metav1.DeleteOptions {
	return metav1.DeleteOptions{PropagationPolicy: &p, Preconditions: &metav1.Preconditions{UID: &uid}}
}

// Conformance: [sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning
func TestAPIGCBackground(t *testing.T) {
	s := parallel(t)
	rc := s.controller("rc", 2)
	s.must(s.client.CoreV1().ReplicationControllers(s.name).Delete(s.ctx, "rc", propagate(metav1.DeletePropagationBackground, rc.UID)))
	s.count("rc", 0)
}

// Conformance: [sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so [Serial]
func TestAPIGCOrphan(t *testing.T) {
	s := parallel(t)
	rc := s.controller("rc", 10)
	s.must(s.client.CoreV1().ReplicationControllers(s.name).Delete(s.ctx, "rc", propagate(metav1.DeletePropagationOrphan, rc.UID)))
	s.eventually(30*time.Second, "the controller is gone", func() error {
		if _, err := s.client.CoreV1().ReplicationControllers(s.name).Get(s.ctx, "rc", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("get: %v", err)
		}
		return nil
	})
	s.podsStay("rc", 10, 5*time.Second)
	for _, p := range s.count("rc", 10) {
		if len(p.OwnerReferences) > 0 {
			t.Errorf("%s is owned by %+v", p.Name, p.OwnerReferences)
		}
	}
}

// Conformance: [sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the deleteOptions says so [Serial]
func TestAPIGCForeground(t *testing.T) {
	s := parallel(t)
	rc := s.controller("rc", 10)
	c := s.client.CoreV1().ReplicationControllers(s.name)
	s.must(c.Delete(s.ctx, "rc", propagate(metav1.DeletePropagationForeground, rc.UID)))
	s.eventually(90*time.Second, "the controller goes after its pods", func() error {
		// The controller first: pods that are seen after it is gone were left.
		rc, err := c.Get(s.ctx, "rc", metav1.GetOptions{})
		pods, listErr := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{})
		s.must(listErr)
		if apierrors.IsNotFound(err) {
			if n := len(pods.Items); n > 0 {
				t.Fatalf("the controller is gone before %d of its pods", n)
			}
			return nil
		}
		if err == nil && (rc.DeletionTimestamp == nil || len(rc.Finalizers) != 1 || rc.Finalizers[0] != metav1.FinalizerDeleteDependents) {
			t.Fatalf("the controller has the finalizers %v, deletion %v", rc.Finalizers, rc.DeletionTimestamp)
		}
		return fmt.Errorf("it is there with %d pods (%v)", len(pods.Items), err)
	})
}

// Conformance: [sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's waiting for dependents to be deleted [Serial]
func TestAPIGCTwoOwners(t *testing.T) {
	s := parallel(t)
	dying, staying := s.controller("dying", 10), s.controller("staying", 0)
	for _, p := range s.count("dying", 10)[:5] {
		_, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, p.Name, types.StrategicMergePatchType, fmt.Appendf(nil,
			`{"metadata":{"labels":{"half":"yes"},"ownerReferences":[{"apiVersion":"v1","kind":"ReplicationController","name":"staying","uid":%q}]}}`, staying.UID), metav1.PatchOptions{})
		s.must(err)
	}
	c := s.client.CoreV1().ReplicationControllers(s.name)
	s.must(c.Delete(s.ctx, "dying", propagate(metav1.DeletePropagationForeground, dying.UID)))
	s.eventually(90*time.Second, "the controller is gone", func() error {
		if _, err := c.Get(s.ctx, "dying", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("get: %v", err)
		}
		return nil
	})
	s.podsStay("dying", 5, 3*time.Second)
	for _, p := range s.count("dying", 5) {
		if p.Labels["half"] != "yes" || len(p.OwnerReferences) != 1 || p.OwnerReferences[0].UID != staying.UID {
			t.Errorf("%s is left with the owners %+v", p.Name, p.OwnerReferences)
		}
	}
}

// Conformance: [sig-api-machinery] Garbage collector should not be blocked by dependency circle
func TestAPIGCCircle(t *testing.T) {
	s := parallel(t)
	var pods []*corev1.Pod
	for i := range 3 {
		pods = append(pods, s.pod(probePod(fmt.Sprint("pod", i+1), "serve")))
	}
	for i, p := range pods {
		owner := pods[(i+2)%3]
		_, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, p.Name, types.StrategicMergePatchType, fmt.Appendf(nil,
			`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":%q,"uid":%q,"controller":true,"blockOwnerDeletion":true}]}}`, owner.Name, owner.UID), metav1.PatchOptions{})
		s.must(err)
	}
	s.must(s.client.CoreV1().Pods(s.name).Delete(s.ctx, "pod1", metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationForeground)}))
	s.eventually(90*time.Second, "all pods are gone", func() error {
		list, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = errLeft(len(list.Items))
		}
		return err
	})
}

func TestAPIGCDeployment(t *testing.T) {
	for name, tc := range map[string]struct {
		policy metav1.DeletionPropagation
		left   int
	}{
		// Conformance: [sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning
		"background": {metav1.DeletePropagationBackground, 0},
		// Conformance: [sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan
		"orphan": {metav1.DeletePropagationOrphan, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := probePod("d", "serve")
			p.Spec.RestartPolicy = corev1.RestartPolicyAlways
			c := s.client.AppsV1().Deployments(s.name)
			d, err := c.Create(s.ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d"}, Spec: appsv1.DeploymentSpec{
				Replicas: ptr.To[int32](2), Selector: &metav1.LabelSelector{MatchLabels: p.Labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: p.Labels}, Spec: p.Spec},
			}}, metav1.CreateOptions{})
			s.must(err)
			s.count("d", 2)
			s.must(c.Delete(s.ctx, "d", propagate(tc.policy, d.UID)))
			s.eventually(60*time.Second, "the deployment is gone and what it made is as it should", func() error {
				if _, err := c.Get(s.ctx, "d", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
					return fmt.Errorf("get: %v", err)
				}
				sets, err := s.client.AppsV1().ReplicaSets(s.name).List(s.ctx, metav1.ListOptions{})
				if err == nil && len(sets.Items) != tc.left {
					err = fmt.Errorf("%d replica sets", len(sets.Items))
				}
				return err
			})
			s.count("d", 2*tc.left)
			if tc.left > 0 {
				s.podsStay("d", 2, 3*time.Second)
				sets, err := s.client.AppsV1().ReplicaSets(s.name).List(s.ctx, metav1.ListOptions{})
				s.must(err)
				if len(sets.Items) != 1 || metav1.GetControllerOf(&sets.Items[0]) != nil {
					t.Errorf("the replica sets are %+v", sets.Items)
				}
			}
		})
	}
}
