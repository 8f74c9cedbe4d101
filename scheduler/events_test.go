package scheduler_test

import (
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// asNote is the text of an event with the reason, empty for others.
func asNote(obj runtime.Object, reason string) string {
	if e, ok := obj.(*eventsv1.Event); ok && e.Reason == reason {
		return e.Note
	}
	return ""
}
