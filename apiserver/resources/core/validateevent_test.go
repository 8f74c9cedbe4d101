package core

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Core's group has its own name of who reports.
func TestReporterOfAnEvent(t *testing.T) {
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"},
		EventTime: metav1.NewMicroTime(time.Unix(1, 0)), ReportingController: "a/b/c", ReportingInstance: "i", Action: "a", Reason: "r",
	}
	const text = `: Invalid value: "a/b/c": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`
	if diff := cmp.Diff([]string{"reportingComponent" + text}, texts(validateEvent(t.Context(), e))); diff != "" {
		t.Error(diff)
	}
}
