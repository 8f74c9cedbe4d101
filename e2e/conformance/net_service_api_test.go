package conformance

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/util/retry"
)

// Conformance: [sig-network] Services should complete a service status lifecycle
func TestNetServiceStatus(t *testing.T) {
	s := parallel(t)
	services := s.client.CoreV1().Services(s.name)
	w, err := s.client.CoreV1().Services("").Watch(s.ctx, metav1.ListOptions{LabelSelector: "test=" + s.name})
	s.must(err)
	defer w.Stop()
	svc := service("web", corev1.ServiceTypeLoadBalancer)
	// A class that nobody serves: the status is the test's alone.
	class := "example.com/nobody"
	svc.Spec.LoadBalancerClass = &class
	svc.Labels["test"] = s.name
	s.service(svc)
	seen := func(what string, is func(*corev1.Service) bool) {
		t.Helper()
		s.seen(w, what, func(_ watch.EventType, obj runtime.Object) bool { return is(obj.(*corev1.Service)) })
	}
	gvr := corev1.SchemeGroupVersion.WithResource("services")
	status, err := s.dynamic.Resource(gvr).Namespace(s.name).Get(s.ctx, "web", metav1.GetOptions{}, "status")
	s.must(err)
	if status.GetKind() != "Service" {
		t.Errorf("/status is a %s", status.GetKind())
	}
	patched, err := services.Patch(s.ctx, "web", types.MergePatchType, []byte(`{"metadata":{"annotations":{"patchedstatus":"true"}},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1"}]}}}`), metav1.PatchOptions{}, "status")
	s.must(err)
	if in := patched.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != "203.0.113.1" || patched.Annotations["patchedstatus"] != "true" {
		t.Errorf("the patched status is %+v", patched.Status)
	}
	seen("the patched status", func(svc *corev1.Service) bool { return svc.Annotations["patchedstatus"] == "true" })
	s.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		svc, err := services.Get(s.ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		svc.Status.Conditions = append(svc.Status.Conditions, metav1.Condition{Type: "StatusUpdate", Status: metav1.ConditionTrue, Reason: "E2E", Message: "set by a test", LastTransitionTime: metav1.Now()})
		_, err = services.UpdateStatus(s.ctx, svc, metav1.UpdateOptions{})
		return err
	}))
	seen("the updated status", func(svc *corev1.Service) bool {
		return slices.ContainsFunc(svc.Status.Conditions, func(c metav1.Condition) bool { return c.Type == "StatusUpdate" && c.Reason == "E2E" })
	})
	_, err = services.Patch(s.ctx, "web", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"test-service":"patched"}}}`), metav1.PatchOptions{})
	s.must(err)
	seen("the patch", func(svc *corev1.Service) bool { return svc.Labels["test-service"] == "patched" })
	s.must(services.Delete(s.ctx, "web", metav1.DeleteOptions{}))
	s.seen(w, "its end", func(kind watch.EventType, _ runtime.Object) bool { return kind == watch.Deleted })
}

// Conformance: [sig-network] Services should delete a collection of services
func TestNetServiceCollection(t *testing.T) {
	s := parallel(t)
	for _, name := range []string{"one", "two", "three"} {
		svc := service(name, corev1.ServiceTypeClusterIP)
		if name != "three" {
			svc.Labels["collection"] = s.name
		}
		s.service(svc)
	}
	count := func(selector string, want int) {
		t.Helper()
		list, err := s.client.CoreV1().Services(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: selector})
		s.must(err)
		if len(list.Items) != want {
			t.Errorf("%q selects %d services, want %d", selector, len(list.Items), want)
		}
	}
	count("", 3)
	count("collection="+s.name, 2)
	s.must(s.dynamic.Resource(corev1.SchemeGroupVersion.WithResource("services")).Namespace(s.name).DeleteCollection(s.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "collection=" + s.name}))
	count("collection="+s.name, 0)
	count("", 1)
}
