package conformance

import (
	"fmt"
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// hasCondition tells whether an object has a condition that is True.
func hasCondition(obj *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions") // a wrong type is no condition
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == kind && c["status"] == "True" {
			return true
		}
	}
	return false
}

// Conformance: [sig-apps] Deployment should validate Deployment Status endpoints
// Conformance: [sig-apps] ReplicaSet should validate Replicaset Status endpoints
// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should validate Statefulset Status endpoints
// Conformance: [sig-apps] Daemon set should verify changes to a daemon set status [Serial]
func TestAppsStatus(t *testing.T) {
	for _, kind := range []string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"} {
		w := workloads()[kind]
		t.Run(kind, func(t *testing.T) {
			s := parallel(t)
			s.start(w, "app")
			obj, err := s.resource(w).Get(s.ctx, "app", metav1.GetOptions{}, "status")
			s.must(err)
			if obj.GetKind() != kind || obj.GetUID() == "" {
				t.Errorf("/status is a %s of uid %q", obj.GetKind(), obj.GetUID())
			}
			watcher, err := s.resource(w).Watch(s.ctx, metav1.ListOptions{LabelSelector: "app=app", ResourceVersion: obj.GetResourceVersion()})
			s.must(err)
			defer watcher.Stop()
			s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
				obj, err := s.resource(w).Get(s.ctx, "app", metav1.GetOptions{})
				if err != nil {
					return err
				}
				conditions, _, err := unstructured.NestedSlice(obj.Object, "status", "conditions")
				if err != nil {
					return err
				}
				conditions = append(conditions, map[string]any{
					"type": "StatusUpdate", "status": "True", "reason": "Test", "message": "set by a test",
				})
				if err := unstructured.SetNestedSlice(obj.Object, conditions, "status", "conditions"); err != nil {
					return err
				}
				// A change of the spec in a write of /status is left out.
				if err := unstructured.SetNestedField(obj.Object, int64(77), "spec", "minReadySeconds"); err != nil {
					return err
				}
				obj, err = s.resource(w).UpdateStatus(s.ctx, obj, metav1.UpdateOptions{})
				if err != nil {
					return err
				}
				if !hasCondition(obj, "StatusUpdate") {
					return fmt.Errorf("the answer lacks the condition: %v", obj.Object["status"])
				}
				if seconds, found, _ := unstructured.NestedInt64(obj.Object, "spec", "minReadySeconds"); found && seconds == 77 {
					return fmt.Errorf("a write of /status changed the spec")
				}
				return nil
			}))
			s.seen(watcher, "the updated status", func(_ watch.EventType, obj runtime.Object) bool {
				return hasCondition(obj.(*unstructured.Unstructured), "StatusUpdate")
			})
			obj, err = s.resource(w).Patch(s.ctx, "app", types.MergePatchType,
				[]byte(`{"status":{"conditions":[{"type":"StatusPatched","status":"True"}]}}`), metav1.PatchOptions{}, "status")
			s.must(err)
			if !hasCondition(obj, "StatusPatched") {
				t.Errorf("the answer lacks the condition: %v", obj.Object["status"])
			}
			s.seen(watcher, "the patched status", func(_ watch.EventType, obj runtime.Object) bool {
				return hasCondition(obj.(*unstructured.Unstructured), "StatusPatched")
			})
		})
	}
}

// Conformance: [sig-apps] Daemon set should list and delete a collection of DaemonSets [Serial]
// Conformance: [sig-apps] ReplicaSet should list and delete a collection of ReplicaSets
// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should list, patch and delete a collection of StatefulSets
func TestAppsCollection(t *testing.T) {
	for _, kind := range []string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"} {
		w := workloads()[kind]
		t.Run(kind, func(t *testing.T) {
			s := parallel(t)
			s.start(w, "app")
			label := map[string]any{"metadata": map[string]any{"labels": map[string]any{"collection": s.name}}}
			obj, err := s.resource(w).Patch(s.ctx, "app", types.StrategicMergePatchType, s.json(map[string]any{
				"metadata": label["metadata"],
				"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
					"terminationGracePeriodSeconds": 0, "containers": []any{map[string]any{"name": "main", "image": "probe:1"}},
				}}},
			}), metav1.PatchOptions{})
			s.must(err)
			containers, _, err := unstructured.NestedSlice(obj.Object, "spec", "template", "spec", "containers")
			s.must(err)
			if len(containers) != 1 || containers[0].(map[string]any)["image"] != "probe:1" || obj.GetLabels()["collection"] != s.name {
				t.Errorf("the patched object has labels %v and containers %v", obj.GetLabels(), containers)
			}
			count := func() int {
				list, err := s.dynamic.Resource(w.gvr).List(s.ctx, metav1.ListOptions{LabelSelector: "collection=" + s.name})
				s.must(err)
				return len(list.Items)
			}
			if n := count(); n != 1 {
				t.Fatalf("the label selects %d objects, want 1", n)
			}
			s.must(s.resource(w).DeleteCollection(s.ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)}, metav1.ListOptions{LabelSelector: "collection=" + s.name}))
			s.eventually(30*time.Second, "the collection is gone", func() error {
				if n := count(); n != 0 {
					return fmt.Errorf("%d are there", n)
				}
				return nil
			})
			s.eventually(30*time.Second, "the pods are gone", func() error {
				if n := len(s.podsOf("app")); n != 0 {
					return fmt.Errorf("%d are there", n)
				}
				return nil
			})
		})
	}
}

func budget(name string, least int) *policyv1.PodDisruptionBudget {
	n := portNumber(least)
	return &policyv1.PodDisruptionBudget{ObjectMeta: named(name), Spec: policyv1.PodDisruptionBudgetSpec{
		MinAvailable: &n, Selector: appSelector("app"),
	}}
}

// Conformance: [sig-apps] DisruptionController Listing PodDisruptionBudgets for all namespaces should list and delete a collection of PodDisruptionBudgets
func TestAppsBudgetCollection(t *testing.T) {
	s := parallel(t)
	other := alone(t)
	label := "test=" + s.name
	for _, in := range []struct {
		namespace, name string
		labelled        bool
	}{{s.name, "one", true}, {s.name, "two", true}, {other.name, "one", true}, {s.name, "three", false}} {
		b := budget(in.name, 1)
		if in.labelled {
			b.Labels["test"] = s.name
		}
		_, err := s.client.PolicyV1().PodDisruptionBudgets(in.namespace).Create(s.ctx, b, metav1.CreateOptions{})
		s.must(err)
	}
	counts := func(namespace, selector string, want int) {
		t.Helper()
		list, err := s.client.PolicyV1().PodDisruptionBudgets(namespace).List(s.ctx, metav1.ListOptions{LabelSelector: selector})
		s.must(err)
		if len(list.Items) != want {
			t.Errorf("%q in %q selects %d budgets, want %d", selector, namespace, len(list.Items), want)
		}
	}
	counts("", label, 3)
	counts(s.name, label, 2)
	counts(s.name, "", 3)
	s.must(s.client.PolicyV1().PodDisruptionBudgets(s.name).DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: label}))
	counts("", label, 1)
	counts(s.name, "", 1)
}
