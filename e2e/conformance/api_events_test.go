package conformance

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Conformance: [sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed
// Conformance: [sig-instrumentation] Events API should delete a collection of events
func TestAPIEvents(t *testing.T) {
	s := parallel(t)
	c := s.client.EventsV1().Events(s.name)
	label := metav1.ListOptions{LabelSelector: "testevent-set=true"}
	event := func(name, reason string) *eventsv1.Event {
		e, err := c.Create(s.ctx, &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"testevent-set": "true"}},
			Regarding:  corev1.ObjectReference{Namespace: s.name, Kind: "Pod", Name: "pod"},
			EventTime:  metav1.NewMicroTime(time.Date(2020, 1, 2, 3, 4, 5, 123456000, time.UTC)),
			Note:       "This is " + name, Action: "Do", Reason: reason, Type: "Normal",
			ReportingController: "test-controller", ReportingInstance: "test-node",
		}, metav1.CreateOptions{})
		s.must(err)
		return e
	}
	event("event-test", "Test")
	all, err := s.client.EventsV1().Events("").List(s.ctx, metav1.ListOptions{FieldSelector: "reportingController=test-controller,metadata.namespace=" + s.name})
	s.must(err)
	equal(s, "the number in all namespaces", 1, len(all.Items))
	list, err := c.List(s.ctx, metav1.ListOptions{FieldSelector: "reportingController=test-controller"})
	s.must(err)
	equal(s, "the number in the namespace", 1, len(list.Items))
	got, err := c.Get(s.ctx, "event-test", metav1.GetOptions{})
	s.must(err)
	equal(s, "the note", "This is event-test", got.Note)
	equal(s, "the time", "2020-01-02T03:04:05.123456Z", got.EventTime.UTC().Format(time.RFC3339Nano))
	core, err := s.client.CoreV1().Events(s.name).Get(s.ctx, "event-test", metav1.GetOptions{})
	s.must(err)
	equal(s, "the message of the core event", "This is event-test", core.Message)
	got, err = c.Patch(s.ctx, "event-test", types.StrategicMergePatchType, []byte(`{"series":{"count":2,"lastObservedTime":"2020-01-02T03:04:06.000000Z"}}`), metav1.PatchOptions{})
	s.must(err)
	equal(s, "the patched count", 2, got.Series.Count)
	got.Series = &eventsv1.EventSeries{Count: 100, LastObservedTime: metav1.NewMicroTime(time.Date(2020, 1, 2, 3, 5, 0, 0, time.UTC))}
	_, err = c.Update(s.ctx, got, metav1.UpdateOptions{})
	s.must(err)
	got, err = c.Get(s.ctx, "event-test", metav1.GetOptions{})
	s.must(err)
	equal(s, "the count of the series", 100, got.Series.Count)
	s.must(c.Delete(s.ctx, "event-test", metav1.DeleteOptions{}))
	if list, err = c.List(s.ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 0 {
		t.Errorf("after the delete: %v, %v", list, err)
	}

	for i := range 3 {
		event(fmt.Sprint("test-event-", i), "Set")
	}
	list, err = c.List(s.ctx, label)
	s.must(err)
	equal(s, "the number in the set", 3, len(list.Items))
	s.must(c.DeleteCollection(s.ctx, metav1.DeleteOptions{}, label))
	list, err = c.List(s.ctx, label)
	s.must(err)
	equal(s, "the number left", 0, len(list.Items))
}

// Conformance: [sig-instrumentation] Events should manage the lifecycle of an event
// Conformance: [sig-instrumentation] Events should delete a collection of events
func TestAPICoreEvents(t *testing.T) {
	s := parallel(t)
	c := s.client.CoreV1().Events(s.name)
	event := func(name string) {
		t.Helper()
		_, err := c.Create(s.ctx, &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"testevent-constant": "true"}},
			Message:    "This is " + name, Reason: "Test", Type: "Normal", Count: 1,
			InvolvedObject: corev1.ObjectReference{Kind: "Event", Name: name, APIVersion: "v1", Namespace: s.name},
		}, metav1.CreateOptions{})
		s.must(err)
	}
	label := metav1.ListOptions{LabelSelector: "testevent-constant=true"}
	event("event-test")
	all, err := s.client.CoreV1().Events("").List(s.ctx, label)
	s.must(err)
	found := 0
	for _, e := range all.Items {
		if e.Namespace == s.name && e.Name == "event-test" {
			found++
		}
	}
	equal(s, "the number found in all namespaces", 1, found)
	_, err = c.Patch(s.ctx, "event-test", types.StrategicMergePatchType, []byte(`{"message":"This is a test event - patched"}`), metav1.PatchOptions{})
	s.must(err)
	got, err := c.Get(s.ctx, "event-test", metav1.GetOptions{})
	s.must(err)
	equal(s, "the patched message", "This is a test event - patched", got.Message)
	got.Series = &corev1.EventSeries{Count: 100, LastObservedTime: metav1.NewMicroTime(time.Date(2014, 1, 1, 0, 0, 0, 0, time.UTC))}
	_, err = c.Update(s.ctx, got, metav1.UpdateOptions{})
	s.must(err)
	got, err = c.Get(s.ctx, "event-test", metav1.GetOptions{})
	s.must(err)
	equal(s, "the count of the series", 100, got.Series.Count)
	s.must(c.Delete(s.ctx, "event-test", metav1.DeleteOptions{}))
	if _, err := c.Get(s.ctx, "event-test", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get after delete: %v", err)
	}
	for i := range 3 {
		event(fmt.Sprint("test-event-", i))
	}
	list, err := c.List(s.ctx, label)
	s.must(err)
	equal(s, "the number in the set", 3, len(list.Items))
	s.must(c.DeleteCollection(s.ctx, metav1.DeleteOptions{}, label))
	list, err = c.List(s.ctx, label)
	s.must(err)
	equal(s, "the number left", 0, len(list.Items))
}

// Conformance: [sig-architecture] Conformance Tests should have at least two untainted nodes
func TestAPITwoNodes(t *testing.T) {
	s := parallel(t)
	nodes, err := s.client.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	s.must(err)
	fit := 0
	for _, n := range nodes.Items {
		ready := false
		for _, c := range n.Status.Conditions {
			ready = ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}
		if ready && len(n.Spec.Taints) == 0 && !n.Spec.Unschedulable {
			fit++
		}
	}
	if fit < 2 {
		t.Errorf("%d of %d nodes take any pod, want 2", fit, len(nodes.Items))
	}
}
