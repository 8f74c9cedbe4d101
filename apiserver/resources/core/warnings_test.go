package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestServiceAccountWarnings(t *testing.T) {
	account := func(annotations map[string]string) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}}
	}
	set := account(map[string]string{enforceMountable: "true"})
	warning := []string{"metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
	for _, c := range []struct {
		name    string
		is, was *corev1.ServiceAccount
		want    []string
	}{
		{"created without", account(nil), nil, nil},
		{"created with", set, nil, warning},
		{"added", set, account(nil), warning},
		{"kept", set, set, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, serviceAccountWarnings(t.Context(), c.is, c.was)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// A resize takes resources alone.
func TestOthersDiffer(t *testing.T) {
	was := &corev1.Container{ResizePolicy: []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: corev1.NotRequired}}}
	is := was.DeepCopy()
	if othersDiffer(is, was) {
		t.Error("the same differs")
	}
	is.ResizePolicy[0].RestartPolicy = corev1.RestartContainer
	if !othersDiffer(is, was) {
		t.Error("another policy of resizes is taken")
	}
}
