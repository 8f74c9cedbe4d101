package conformance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

const revision = "deployment.kubernetes.io/revision"

func portNumber(n int) intstr.IntOrString { return intstr.FromInt32(int32(n)) }

func (s *space) deploy(d *appsv1.Deployment) *appsv1.Deployment {
	s.t.Helper()
	out, err := s.client.AppsV1().Deployments(s.name).Create(s.ctx, d, metav1.CreateOptions{})
	s.must(err)
	return out
}

func (s *space) updateDeployment(name string, change func(*appsv1.Deployment)) *appsv1.Deployment {
	s.t.Helper()
	var out *appsv1.Deployment
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		d, err := s.client.AppsV1().Deployments(s.name).Get(s.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(d)
		out, err = s.client.AppsV1().Deployments(s.name).Update(s.ctx, d, metav1.UpdateOptions{})
		return err
	}))
	return out
}

// deploymentIs waits for a state that the controller has reported.
func (s *space) deploymentIs(name, what string, is func(*appsv1.Deployment) bool) *appsv1.Deployment {
	s.t.Helper()
	var d *appsv1.Deployment
	s.eventually(90*time.Second, "deployment "+name+" "+what, func() (err error) {
		if d, err = s.client.AppsV1().Deployments(s.name).Get(s.ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if d.Status.ObservedGeneration < d.Generation || !is(d) {
			return fmt.Errorf("generation %d: %+v", d.Generation, d.Status)
		}
		return nil
	})
	return d
}

func complete(d *appsv1.Deployment) bool {
	n := *d.Spec.Replicas
	return d.Status.UpdatedReplicas == n && d.Status.Replicas == n && d.Status.AvailableReplicas == n
}

// sets are the ReplicaSets of an application, the oldest first.
func (s *space) sets(app string) []appsv1.ReplicaSet {
	s.t.Helper()
	list, err := s.client.AppsV1().ReplicaSets(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	s.must(err)
	slices.SortFunc(list.Items, func(a, b appsv1.ReplicaSet) int {
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	return list.Items
}

// setOf is the ReplicaSet with an image.
func (s *space) setOf(app, image string) *appsv1.ReplicaSet {
	s.t.Helper()
	for _, rs := range s.sets(app) {
		if rs.Spec.Template.Spec.Containers[0].Image == image {
			return &rs
		}
	}
	return nil
}

// setIs waits until the ReplicaSet with an image wants n pods.
func (s *space) setIs(app, image string, n int32) {
	s.t.Helper()
	s.eventually(60*time.Second, fmt.Sprintf("the ReplicaSet of %s has %d replicas", image, n), func() error {
		rs := s.setOf(app, image)
		if rs == nil {
			return fmt.Errorf("there is none")
		}
		if *rs.Spec.Replicas != n {
			return fmt.Errorf("it has %d", *rs.Spec.Replicas)
		}
		return nil
	})
}

// Conformance: [sig-apps] Deployment RecreateDeployment should delete old pods and create new ones
func TestAppsDeploymentRecreate(t *testing.T) {
	s := parallel(t)
	d := deployment("app", 2)
	d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType
	s.deploy(d)
	s.deploymentIs("app", "complete", complete)
	old := s.sets("app")[0].Labels["pod-template-hash"]
	list, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "app=app"})
	s.must(err)
	w, err := s.client.CoreV1().Pods(s.name).Watch(s.ctx, metav1.ListOptions{LabelSelector: "app=app", ResourceVersion: list.ResourceVersion})
	s.must(err)
	defer w.Stop()
	s.updateDeployment("app", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "probe:1" })
	left := map[string]bool{}
	for _, p := range list.Items {
		left[p.Name] = true
	}
	s.seen(w, "a new pod after the old ones", func(kind watch.EventType, obj runtime.Object) bool {
		p := obj.(*corev1.Pod)
		switch {
		case p.Labels["pod-template-hash"] == old:
			// An ended pod does not run, even if it is still there.
			if kind == watch.Deleted || p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
				delete(left, p.Name)
			}
		case p.Labels["pod-template-hash"] != old:
			if len(left) > 0 {
				t.Errorf("pod %s runs beside the old %v", p.Name, left)
			}
			return true
		}
		return false
	})
	s.deploymentIs("app", "complete", complete)
	if got := s.setOf("app", "probe"); got == nil || *got.Spec.Replicas != 0 {
		t.Errorf("the old ReplicaSet is %+v, want it with no replicas", got)
	}
}

// Conformance: [sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones
func TestAppsDeploymentRollingUpdate(t *testing.T) {
	s := parallel(t)
	// The Deployment adopts a ReplicaSet that has a revision.
	rs := replicaSet("app", 1)
	rs.Name = "orphan"
	rs.Annotations = map[string]string{revision: "3546343826724305832"}
	_, err := s.client.AppsV1().ReplicaSets(s.name).Create(s.ctx, rs, metav1.CreateOptions{})
	s.must(err)
	s.running("app", 1)
	d := deployment("app", 1)
	d.Spec.Template.Spec.Containers[0].Image = "probe:1"
	s.deploy(d)
	got := s.deploymentIs("app", "complete", complete)
	if got.Annotations[revision] != "3546343826724305833" {
		t.Errorf("the revision is %q, want one after the adopted ReplicaSet's", got.Annotations[revision])
	}
	orphan := s.setOf("app", "probe")
	if orphan == nil || *orphan.Spec.Replicas != 0 || owner(orphan).UID != got.UID {
		t.Errorf("the orphan is %+v, want it adopted and with no replicas", orphan)
	}
	next := s.setOf("app", "probe:1")
	hash := next.Labels["pod-template-hash"]
	if hash == "" || next.Name != "app-"+hash || next.Spec.Selector.MatchLabels["pod-template-hash"] != hash ||
		next.Spec.Template.Labels["pod-template-hash"] != hash {
		t.Errorf("the new ReplicaSet is %s with labels %v, want the hash of its template in name, labels and selector", next.Name, next.Labels)
	}
	s.running("app", 1)
}

// Conformance: [sig-apps] Deployment deployment should delete old replica sets
func TestAppsDeploymentHistory(t *testing.T) {
	s := parallel(t)
	rs := replicaSet("app", 1)
	rs.Name = "orphan"
	_, err := s.client.AppsV1().ReplicaSets(s.name).Create(s.ctx, rs, metav1.CreateOptions{})
	s.must(err)
	s.running("app", 1)
	d := deployment("app", 1)
	d.Spec.RevisionHistoryLimit = ptr.To[int32](0)
	d.Spec.Template.Spec.Containers[0].Image = "probe:1"
	s.deploy(d)
	s.eventually(60*time.Second, "one ReplicaSet", func() error {
		if sets := s.sets("app"); len(sets) != 1 || sets[0].Name == "orphan" {
			return fmt.Errorf("there are %d", len(sets))
		}
		return nil
	})
	s.deploymentIs("app", "complete", complete)
}

// Conformance: [sig-apps] Deployment deployment should support rollover
func TestAppsDeploymentRollover(t *testing.T) {
	s := parallel(t)
	rs := replicaSet("app", 1)
	rs.Name = "orphan"
	_, err := s.client.AppsV1().ReplicaSets(s.name).Create(s.ctx, rs, metav1.CreateOptions{})
	s.must(err)
	s.running("app", 1)
	d := deployment("app", 1)
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: ptr.To(portNumber(0)), MaxSurge: ptr.To(portNumber(1))}
	d.Spec.MinReadySeconds = 2
	d.Spec.Template.Spec.Containers[0].Image = absent
	s.deploy(d)
	s.setIs("app", absent, 1)
	s.setIs("app", "probe", 1) // none of the working pods is given up for it
	s.updateDeployment("app", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "probe:1" })
	s.setIs("app", absent, 0)
	s.setIs("app", "probe:1", 1)
	got := s.deploymentIs("app", "complete", complete)
	s.setIs("app", "probe", 0)
	if got.Annotations[revision] != "2" { // the orphan had none
		t.Errorf("the revision is %q, want 2", got.Annotations[revision])
	}
}

// Conformance: [sig-apps] Deployment deployment should support proportional scaling
func TestAppsDeploymentProportional(t *testing.T) {
	s := parallel(t)
	d := deployment("app", 10)
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: ptr.To(portNumber(2)), MaxSurge: ptr.To(portNumber(3))}
	s.deploy(d)
	s.deploymentIs("app", "complete", complete)
	s.updateDeployment("app", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = absent })
	s.setIs("app", "probe", 8)
	s.setIs("app", absent, 5)
	s.deploymentIs("app", "at its least", func(d *appsv1.Deployment) bool {
		return d.Status.AvailableReplicas == 8 && d.Status.UpdatedReplicas == 5
	})
	s.updateDeployment("app", func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](30) })
	s.setIs("app", "probe", 20)
	s.setIs("app", absent, 13)
}
