package conformance

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

// Conformance: [sig-apps] Deployment should run the lifecycle of a Deployment
func TestAppsDeploymentLifecycle(t *testing.T) {
	s := parallel(t)
	deployments := s.client.AppsV1().Deployments(s.name)
	label := "test=" + s.name
	w, err := s.client.AppsV1().Deployments("").Watch(s.ctx, metav1.ListOptions{LabelSelector: label})
	s.must(err)
	defer w.Stop()
	d := deployment("app", 2)
	d.Labels["test"] = s.name
	s.deploy(d)
	deploymentSeen := func(what string, kind watch.EventType, is func(*appsv1.Deployment) bool) {
		t.Helper()
		s.seen(w, what, func(got watch.EventType, obj runtime.Object) bool { return got == kind && is(obj.(*appsv1.Deployment)) })
	}
	deploymentSeen("its creation", watch.Added, func(*appsv1.Deployment) bool { return true })
	deploymentSeen("two ready replicas", watch.Modified, func(d *appsv1.Deployment) bool { return d.Status.ReadyReplicas == 2 })

	_, err = deployments.Patch(s.ctx, "app", types.StrategicMergePatchType, s.json(map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"deployment": "patched"}},
		"spec": map[string]any{"replicas": 1, "template": map[string]any{"spec": map[string]any{
			"terminationGracePeriodSeconds": 0,
			"containers":                    []any{map[string]any{"name": "main", "image": "probe:1"}},
		}}},
	}), metav1.PatchOptions{})
	s.must(err)
	deploymentSeen("the patch", watch.Modified, func(d *appsv1.Deployment) bool {
		return d.Labels["deployment"] == "patched" && *d.Spec.Replicas == 1 && d.Spec.Template.Spec.Containers[0].Image == "probe:1"
	})
	deploymentSeen("one updated replica", watch.Modified, func(d *appsv1.Deployment) bool {
		return d.Status.ObservedGeneration == d.Generation && complete(d)
	})
	list, err := s.client.AppsV1().Deployments("").List(s.ctx, metav1.ListOptions{LabelSelector: label})
	s.must(err)
	if len(list.Items) != 1 || list.Items[0].Name != "app" {
		t.Errorf("the list of all namespaces has %d objects", len(list.Items))
	}
	// The controller corrects a status that is wrong.
	_, err = deployments.Patch(s.ctx, "app", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"status":"patched"}},"status":{"readyReplicas":0,"availableReplicas":0}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	deploymentSeen("the corrected status", watch.Modified, func(d *appsv1.Deployment) bool { return d.Status.ReadyReplicas == 1 })

	now, err := deployments.Get(s.ctx, "app", metav1.GetOptions{})
	s.must(err)
	s.updateDeployment("app", func(d *appsv1.Deployment) { d.Annotations["updated"] = "true"; d.Spec.Replicas = ptr.To[int32](2) })
	deploymentSeen("the update", watch.Modified, func(d *appsv1.Deployment) bool {
		return d.Annotations["updated"] == "true" && d.Generation == now.Generation+1
	})
	deploymentSeen("the update's end", watch.Modified, complete)
	s.must(deployments.DeleteCollection(s.ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)}, metav1.ListOptions{LabelSelector: label}))
	deploymentSeen("its end", watch.Deleted, func(d *appsv1.Deployment) bool { return d.Name == "app" })
	s.eventually(30*time.Second, "its ReplicaSets are gone", func() error {
		if n := len(s.sets("app")); n > 0 {
			return fmt.Errorf("%d are there", n)
		}
		return nil
	})
}
