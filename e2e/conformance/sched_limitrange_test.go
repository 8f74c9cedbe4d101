package conformance

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

func amounts(cpu, memory, disk string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, amount := range map[corev1.ResourceName]string{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory, corev1.ResourceEphemeralStorage: disk} {
		if amount != "" {
			out[name] = resource.MustParse(amount)
		}
	}
	return out
}

// Conformance: [sig-scheduling] LimitRange should create a LimitRange with defaults and ensure pod has those defaults applied.
func TestSchedLimitRange(t *testing.T) {
	s := parallel(t)
	ranges, pods := s.client.CoreV1().LimitRanges(s.name), s.client.CoreV1().Pods(s.name)
	w, err := ranges.Watch(s.ctx, metav1.ListOptions{LabelSelector: "app=limits"})
	s.must(err)
	defer w.Stop()
	item := corev1.LimitRangeItem{
		Type: corev1.LimitTypeContainer,
		Min:  amounts("50m", "100Mi", "100Gi"), Max: amounts("500m", "500Mi", "500Gi"),
		Default: amounts("500m", "500Mi", "500Gi"), DefaultRequest: amounts("100m", "200Mi", "200Gi"),
	}
	_, err = ranges.Create(s.ctx, &corev1.LimitRange{ObjectMeta: named("limits"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{item}}}, metav1.CreateOptions{})
	s.must(err)
	seen := func(want watch.EventType) {
		t.Helper()
		s.seen(w, "the limit range "+string(want), func(got watch.EventType, _ runtime.Object) bool { return got == want })
	}
	seen(watch.Added)
	try := func(name string, requests, limits corev1.ResourceList) (*corev1.Pod, error) {
		p := probePod(name)
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: requests, Limits: limits}
		return pods.Create(s.ctx, p, metav1.CreateOptions{})
	}
	for _, tc := range []struct {
		name                     string
		requests, limits         corev1.ResourceList
		wantRequests, wantLimits corev1.ResourceList
	}{
		{name: "none", wantRequests: item.DefaultRequest, wantLimits: item.Default},
		{
			name: "some", requests: amounts("", "150Mi", "150Gi"), limits: amounts("300m", "", ""),
			wantRequests: amounts("300m", "150Mi", "150Gi"), wantLimits: amounts("300m", "500Mi", "500Gi"),
		},
	} {
		p, err := try(tc.name, tc.requests, tc.limits)
		s.must(err)
		got := p.Spec.Containers[0].Resources
		for what, lists := range map[string][2]corev1.ResourceList{"requests": {got.Requests, tc.wantRequests}, "limits": {got.Limits, tc.wantLimits}} {
			for name, want := range lists[1] {
				if have := lists[0][name]; have.Cmp(want) != 0 {
					t.Errorf("pod %s: the %s of %s are %s, want %s", tc.name, what, name, have.String(), want.String())
				}
			}
		}
	}
	refused := func(name string, requests, limits corev1.ResourceList) {
		t.Helper()
		if _, err := try(name, requests, limits); !apierrors.IsForbidden(err) {
			t.Errorf("pod %s: %v, want it forbidden", name, err)
		}
	}
	refused("below", amounts("10m", "50Mi", "50Gi"), nil)
	refused("above", nil, amounts("600m", "600Mi", "600Gi"))
	lr, err := ranges.Get(s.ctx, "limits", metav1.GetOptions{})
	s.must(err)
	lr.Spec.Limits[0].Min = amounts("9m", "49Mi", "49Gi")
	lr, err = ranges.Update(s.ctx, lr, metav1.UpdateOptions{})
	s.must(err)
	if got := lr.Spec.Limits[0].Min.Cpu().MilliValue(); got != 9 {
		t.Errorf("the updated minimum is %dm", got)
	}
	seen(watch.Modified)
	// Admission follows what a client has seen a moment later.
	s.eventually(5*time.Second, "the new minimum", func() error {
		_, err := try("below", amounts("10m", "50Mi", "50Gi"), nil)
		return err
	})
	refused("above", nil, amounts("600m", "600Mi", "600Gi"))
	s.must(ranges.Delete(s.ctx, "limits", metav1.DeleteOptions{}))
	seen(watch.Deleted)
	s.eventually(5*time.Second, "no maximum", func() error {
		_, err := try("above", nil, amounts("600m", "600Mi", "600Gi"))
		return err
	})
}
