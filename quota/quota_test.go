package quota

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

var now = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

func evaluatorFor(t *testing.T, obj runtime.Object) Evaluator {
	t.Helper()
	all := Evaluators(func() time.Time { return now }, func(class string) string { return map[string]string{"gpu": "example.com/gpu"}[class] })
	switch obj.(type) {
	case *v1.Pod:
		return all[0]
	case *v1.Service:
		return all[1]
	case *v1.PersistentVolumeClaim:
		return all[2]
	case *resourceapi.ResourceClaim:
		return all[3]
	}
	t.Fatalf("no evaluator for %T", obj)
	return nil
}

func pod(change func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{
		Requests: v1.ResourceList{"cpu": resource.MustParse("100m"), "example.com/gpu": resource.MustParse("1")},
		Limits:   v1.ResourceList{"memory": resource.MustParse("1Gi")},
	}}}}}
	if change != nil {
		change(p)
	}
	return p
}

func TestUsage(t *testing.T) {
	for name, tc := range map[string]struct {
		obj  runtime.Object
		want map[v1.ResourceName]string
	}{
		"pod": {pod(nil), map[v1.ResourceName]string{
			"count/pods": "1", "pods": "1", "cpu": "100m", "requests.cpu": "100m", "limits.memory": "1Gi", "requests.example.com/gpu": "1"}},
		"pod with devices of a class": {pod(func(p *v1.Pod) {
			p.Spec.Containers[0].Resources = v1.ResourceRequirements{Requests: v1.ResourceList{"deviceclass.resource.kubernetes.io/gpu": resource.MustParse("2")}}
		}), map[v1.ResourceName]string{"count/pods": "1", "pods": "1", "requests.deviceclass.resource.kubernetes.io/gpu": "2"}},
		"ended pod": {pod(func(p *v1.Pod) { p.Status.Phase = v1.PodFailed }), map[v1.ResourceName]string{"count/pods": "1"}},
		"pod past its deletion": {pod(func(p *v1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now.Add(-time.Minute)}, ptr.To[int64](30)
		}), map[v1.ResourceName]string{"count/pods": "1"}},
		"load balancer": {&v1.Service{Spec: v1.ServiceSpec{Type: v1.ServiceTypeLoadBalancer, Ports: make([]v1.ServicePort, 2)}},
			map[v1.ResourceName]string{"count/services": "1", "services": "1", "services.nodeports": "2", "services.loadbalancers": "1"}},
		"device claim": {&resourceapi.ResourceClaim{Spec: resourceapi.ResourceClaimSpec{Devices: resourceapi.DeviceClaim{Requests: []resourceapi.DeviceRequest{
			{FirstAvailable: []resourceapi.DeviceSubRequest{{DeviceClassName: "gpu", Count: 3}, {DeviceClassName: "plain", Count: 2}}},
		}}}}, map[v1.ResourceName]string{"count/resourceclaims.resource.k8s.io": "1",
			"gpu.deviceclass.resource.k8s.io/devices": "3", "requests.deviceclass.resource.kubernetes.io/gpu": "3", "requests.example.com/gpu": "3",
			"plain.deviceclass.resource.k8s.io/devices": "2", "requests.deviceclass.resource.kubernetes.io/plain": "2"}},
		"claim": {&v1.PersistentVolumeClaim{Spec: v1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To("gold"), Resources: v1.VolumeResourceRequirements{Requests: v1.ResourceList{"storage": resource.MustParse("5Gi")}},
		}}, map[v1.ResourceName]string{
			"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "5Gi",
			"gold.storageclass.storage.k8s.io/requests.storage": "5Gi", "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			usage, err := evaluatorFor(t, tc.obj).Usage(tc.obj)
			if err != nil {
				t.Fatal(err)
			}
			got := map[v1.ResourceName]string{}
			for k, q := range usage {
				got[k] = q.String()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestScopes(t *testing.T) {
	plain := pod(nil)
	none := pod(func(p *v1.Pod) { p.Spec.Containers[0].Resources = v1.ResourceRequirements{} })
	short := pod(func(p *v1.Pod) { p.Spec.ActiveDeadlineSeconds, p.Spec.PriorityClassName = ptr.To[int64](1), "high" })
	for name, tc := range map[string]struct {
		scope v1.ResourceQuotaScope
		in    *v1.Pod
		out   *v1.Pod
	}{
		"best effort":     {v1.ResourceQuotaScopeBestEffort, none, plain},
		"not best effort": {v1.ResourceQuotaScopeNotBestEffort, plain, none},
		"terminating":     {v1.ResourceQuotaScopeTerminating, short, plain},
		"priority":        {v1.ResourceQuotaScopePriorityClass, short, plain},
	} {
		t.Run(name, func(t *testing.T) {
			q := &v1.ResourceQuota{Spec: v1.ResourceQuotaSpec{Hard: v1.ResourceList{"pods": resource.MustParse("1")}, Scopes: []v1.ResourceQuotaScope{tc.scope}}}
			for p, want := range map[*v1.Pod]bool{tc.in: true, tc.out: false} {
				got, err := Matches(evaluatorFor(t, p), q, p)
				if err != nil || got != want {
					t.Errorf("Matches = %v, %v, want %v", got, err, want)
				}
			}
		})
	}
}

func TestConstrainNamesWhatIsMissing(t *testing.T) {
	err := Pods{}.Constrain([]v1.ResourceName{"limits.cpu", "requests.cpu", "requests.ephemeral-storage", "pods"}, pod(nil))
	if err == nil || err.Error() != "must specify limits.cpu for: c" {
		t.Errorf("error %v", err)
	}
}

func TestExceeded(t *testing.T) {
	got := Exceeded(v1.ResourceList{"pods": resource.MustParse("3"), "cpu": resource.MustParse("1")}, v1.ResourceList{"pods": resource.MustParse("2")})
	if diff := cmp.Diff([]v1.ResourceName{"pods"}, got); diff != "" {
		t.Error(diff)
	}
}
