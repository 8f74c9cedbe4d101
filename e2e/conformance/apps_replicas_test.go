package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// Conformance: [sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods
// Conformance: [sig-apps] ReplicationController should adopt matching pods on creation
// Conformance: [sig-apps] ReplicationController should release no longer matching pods
func TestAppsAdoption(t *testing.T) {
	for _, kind := range []string{"ReplicaSet", "ReplicationController"} {
		w := workloads()[kind]
		t.Run(kind, func(t *testing.T) {
			s := parallel(t)
			orphan := template("app")
			orphan.Spec.Containers[0].Image = "probe:1"
			s.ready(&corev1.Pod{ObjectMeta: named("app"), Spec: orphan.Spec})
			obj, err := s.resource(w).Create(s.ctx, s.object(w.make("app"), w.gvk), metav1.CreateOptions{})
			s.must(err)
			p := s.podIs("app", "adopted", func(p *corev1.Pod) bool { return owner(p).UID == obj.GetUID() })
			if o := owner(p); o.Kind != kind || o.Name != "app" || !ptr.Deref(o.BlockOwnerDeletion, false) {
				t.Errorf("the pod's owner is %+v", o)
			}
			if pods := s.podsOf("app"); len(pods) != 1 {
				t.Errorf("there are %d pods, want the adopted one alone", len(pods))
			}
			_, err = s.client.CoreV1().Pods(s.name).Patch(s.ctx, "app", types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"released"}}}`), metav1.PatchOptions{})
			s.must(err)
			s.podIs("app", "released", func(p *corev1.Pod) bool { return metav1.GetControllerOf(p) == nil })
			s.running("app", 1) // the replacement
		})
	}
}

// Conformance: [sig-apps] ReplicaSet should serve a basic image on each replica with a public image
// Conformance: [sig-apps] ReplicationController should serve a basic image on each replica with a public image
func TestAppsServe(t *testing.T) {
	for _, kind := range []string{"ReplicaSet", "ReplicationController"} {
		w := workloads()[kind]
		t.Run(kind, func(t *testing.T) {
			s := parallel(t)
			s.start(w, "app")
			_, err := s.resource(w).Patch(s.ctx, "app", types.MergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{})
			s.must(err)
			for _, p := range s.running("app", 2) {
				body, err := s.client.CoreV1().RESTClient().Get().Namespace(s.name).Resource("pods").Name(p.Name + ":8080").SubResource("proxy").Do(s.ctx).Raw()
				if got := strings.TrimSpace(string(body)); err != nil || got != p.Name {
					t.Errorf("pod %s answers %q (%v), want its name", p.Name, got, err)
				}
				for _, network := range []string{"tcp " + p.Status.PodIP + ":8082", "udp " + p.Status.PodIP + ":8081"} {
					command := append([]string{"/probe"}, append(strings.Fields(network), "hello")...)
					if out := s.mustExec(p.Name, "main", command...); out != "hello\n" {
						t.Errorf("%s answers %q", network, out)
					}
				}
			}
		})
	}
}

// Conformance: [sig-apps] ReplicaSet Replace and Patch tests
func TestAppsReplicaSetReplaceAndPatch(t *testing.T) {
	s := parallel(t)
	sets := s.client.AppsV1().ReplicaSets(s.name)
	w, err := sets.Watch(s.ctx, metav1.ListOptions{LabelSelector: "app=app"})
	s.must(err)
	defer w.Stop()
	_, err = sets.Create(s.ctx, replicaSet("app", 1), metav1.CreateOptions{})
	s.must(err)
	s.running("app", 1)
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		rs, err := sets.Get(s.ctx, "app", metav1.GetOptions{})
		if err != nil {
			return err
		}
		rs.Spec.Replicas = ptr.To[int32](2)
		_, err = sets.Update(s.ctx, rs, metav1.UpdateOptions{})
		return err
	}))
	s.running("app", 2)
	_, err = sets.Patch(s.ctx, "app", types.StrategicMergePatchType, s.json(map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"test-rs": "patched"}},
		"spec": map[string]any{"replicas": 3, "template": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"name": "main", "image": "probe:1"}},
		}}},
	}), metav1.PatchOptions{})
	s.must(err)
	s.seen(w, "three ready replicas after the patch", func(_ watch.EventType, obj runtime.Object) bool {
		rs := obj.(*appsv1.ReplicaSet)
		return rs.Labels["test-rs"] == "patched" && rs.Status.ReadyReplicas == 3 && rs.Status.AvailableReplicas == 3
	})
	images := map[string]int{}
	for _, p := range s.running("app", 3) {
		images[p.Spec.Containers[0].Image]++
	}
	if images["probe"] != 2 || images["probe:1"] != 1 {
		t.Errorf("the pods' images are %v: a changed template is for new pods alone", images)
	}
}

// Conformance: [sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota
func TestAppsReplicaFailure(t *testing.T) {
	s := parallel(t)
	_, err := s.client.CoreV1().ResourceQuotas(s.name).Create(s.ctx, &corev1.ResourceQuota{ObjectMeta: named("quota"), Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")},
	}}, metav1.CreateOptions{})
	s.must(err)
	s.eventually(20*time.Second, "the quota's status", func() error {
		q, err := s.client.CoreV1().ResourceQuotas(s.name).Get(s.ctx, "quota", metav1.GetOptions{})
		if err == nil && q.Status.Hard.Pods().Value() != 2 {
			err = errors.New("it is empty")
		}
		return err
	})
	controllers := s.client.CoreV1().ReplicationControllers(s.name)
	_, err = controllers.Create(s.ctx, controller("app", 3), metav1.CreateOptions{})
	s.must(err)
	failing := func(want bool) {
		t.Helper()
		s.eventually(60*time.Second, fmt.Sprintf("ReplicaFailure is %v", want), func() error {
			rc, err := controllers.Get(s.ctx, "app", metav1.GetOptions{})
			if err != nil {
				return err
			}
			got := slices.ContainsFunc(rc.Status.Conditions, func(c corev1.ReplicationControllerCondition) bool {
				return c.Type == corev1.ReplicationControllerReplicaFailure && c.Status == corev1.ConditionTrue && c.Reason == "FailedCreate" &&
					strings.Contains(c.Message, "exceeded quota: quota")
			})
			if rc.Status.ObservedGeneration < rc.Generation || got != want {
				return fmt.Errorf("%+v", rc.Status)
			}
			return nil
		})
	}
	failing(true)
	_, err = controllers.Patch(s.ctx, "app", types.MergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{})
	s.must(err)
	failing(false)
}

// Conformance: [sig-apps] ReplicationController should test the lifecycle of a ReplicationController
func TestAppsReplicationControllerLifecycle(t *testing.T) {
	s := parallel(t)
	controllers := s.client.CoreV1().ReplicationControllers(s.name)
	label := "test=" + s.name
	w, err := s.client.CoreV1().ReplicationControllers("").Watch(s.ctx, metav1.ListOptions{LabelSelector: label})
	s.must(err)
	defer w.Stop()
	rc := controller("app", 1)
	rc.Labels["test"] = s.name
	_, err = controllers.Create(s.ctx, rc, metav1.CreateOptions{})
	s.must(err)
	rcSeen := func(what string, kind watch.EventType, is func(*corev1.ReplicationController) bool) {
		t.Helper()
		s.seen(w, what, func(got watch.EventType, obj runtime.Object) bool {
			return got == kind && is(obj.(*corev1.ReplicationController))
		})
	}
	rcSeen("its creation", watch.Added, func(*corev1.ReplicationController) bool { return true })
	rcSeen("a ready replica", watch.Modified, func(rc *corev1.ReplicationController) bool { return rc.Status.ReadyReplicas == 1 })
	_, err = controllers.Patch(s.ctx, "app", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"rc":"patched"}}}`), metav1.PatchOptions{})
	s.must(err)
	rcSeen("the patch", watch.Modified, func(rc *corev1.ReplicationController) bool { return rc.Labels["rc"] == "patched" })
	_, err = controllers.Patch(s.ctx, "app", types.StrategicMergePatchType, []byte(`{"status":{"readyReplicas":0,"availableReplicas":0}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	rcSeen("the patched status", watch.Modified, func(rc *corev1.ReplicationController) bool { return rc.Status.ReadyReplicas == 0 })
	rcSeen("the corrected status", watch.Modified, func(rc *corev1.ReplicationController) bool { return rc.Status.ReadyReplicas == 1 })
	got, err := controllers.Get(s.ctx, "app", metav1.GetOptions{}) // and its status
	s.must(err)
	if got.Status.Replicas != 1 {
		t.Errorf("the status has %d replicas, want 1", got.Status.Replicas)
	}
	_, err = controllers.Patch(s.ctx, "app", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":2}}`), metav1.PatchOptions{}, "scale")
	s.must(err)
	rcSeen("two ready replicas", watch.Modified, func(rc *corev1.ReplicationController) bool { return rc.Status.ReadyReplicas == 2 })
	list, err := s.client.CoreV1().ReplicationControllers("").List(s.ctx, metav1.ListOptions{LabelSelector: label})
	s.must(err)
	if len(list.Items) != 1 {
		t.Errorf("the list of all namespaces has %d objects, want 1", len(list.Items))
	}
	rc = &list.Items[0]
	rc.Annotations = map[string]string{"updated": "true"}
	_, err = controllers.Update(s.ctx, rc, metav1.UpdateOptions{})
	s.must(err)
	rcSeen("the update", watch.Modified, func(rc *corev1.ReplicationController) bool { return rc.Annotations["updated"] == "true" })
	s.must(controllers.DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: label}))
	rcSeen("its end", watch.Deleted, func(*corev1.ReplicationController) bool { return true })
}
