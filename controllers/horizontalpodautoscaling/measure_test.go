package horizontalpodautoscaling

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscaling "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	customapi "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	metrics "k8s.io/metrics/pkg/client/clientset/versioned"
	custom "k8s.io/metrics/pkg/client/custom_metrics"
	external "k8s.io/metrics/pkg/client/external_metrics"
	"k8s.io/utils/ptr"
)

// metricsServer answers with the values that stand at its paths.
func metricsServer(t *testing.T, answers map[string]string) Config {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, ok := answers[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"nothing is measured","code":404}`
		}
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{{Version: "v1"}})
	mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, meta.RESTScopeNamespace)
	mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: "Service"}, meta.RESTScopeNamespace)
	ofObjects, err := custom.NewForVersionForConfig(config, mapper, customapi.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	ofAnything, err := external.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ofResources, err := metrics.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Custom: ofObjects, External: ofAnything, Metrics: ofResources}
}

func values(api, kind string, ofPod ...string) string {
	list := ""
	for i, v := range ofPod {
		if i > 0 {
			list += ","
		}
		list += fmt.Sprintf(`{"describedObject":{"kind":"Pod","name":"p%d"},"metric":{"name":"m"},"timestamp":"2026-01-01T00:00:00Z","value":%q}`, i, v)
	}
	return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"items":[%s]}`, api, kind, list)
}

func usages(cpu ...string) string {
	list := ""
	for i, v := range cpu {
		if i > 0 {
			list += ","
		}
		list += fmt.Sprintf(`{"metadata":{"name":"p%d"},"timestamp":"2026-01-01T00:10:00Z","window":"30s","containers":[{"name":"c","usage":{"cpu":%q}}]}`, i, v)
	}
	return `{"apiVersion":"metrics.k8s.io/v1beta1","kind":"PodMetricsList","items":[` + list + `]}`
}

func runningPods(n int, start time.Time) []*v1.Pod {
	var pods []*v1.Pod
	for i := range n {
		pods = append(pods, &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i), Namespace: "ns", Labels: map[string]string{"app": "a"}},
			Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c",
				Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}}}}},
			Status: v1.PodStatus{Phase: v1.PodRunning, StartTime: &metav1.Time{Time: start},
				Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue, LastTransitionTime: metav1.NewTime(start)}}},
		})
	}
	return pods
}

func TestOneMetric(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	quantity := func(s string) *resource.Quantity { return ptr.To(resource.MustParse(s)) }
	named := autoscaling.MetricIdentifier{Name: "m"}
	service := autoscaling.CrossVersionObjectReference{APIVersion: "v1", Kind: "Service", Name: "web"}
	cpu := func(percent int32) autoscaling.MetricSpec {
		return autoscaling.MetricSpec{Type: autoscaling.ResourceMetricSourceType, Resource: &autoscaling.ResourceMetricSource{
			Name: v1.ResourceCPU, Target: autoscaling.MetricTarget{Type: autoscaling.UtilizationMetricType, AverageUtilization: &percent}}}
	}
	object := func(ref autoscaling.CrossVersionObjectReference, target autoscaling.MetricTarget) autoscaling.MetricSpec {
		return autoscaling.MetricSpec{Type: autoscaling.ObjectMetricSourceType,
			Object: &autoscaling.ObjectMetricSource{DescribedObject: ref, Metric: named, Target: target}}
	}
	anything := func(target autoscaling.MetricTarget) autoscaling.MetricSpec {
		return autoscaling.MetricSpec{Type: autoscaling.ExternalMetricSourceType, External: &autoscaling.ExternalMetricSource{Metric: named, Target: target}}
	}
	perPod := autoscaling.MetricSpec{Type: autoscaling.PodsMetricSourceType, Pods: &autoscaling.PodsMetricSource{Metric: named,
		Target: autoscaling.MetricTarget{Type: autoscaling.AverageValueMetricType, AverageValue: quantity("10")}}}
	value := func(s string) autoscaling.MetricTarget {
		return autoscaling.MetricTarget{Type: autoscaling.ValueMetricType, Value: quantity(s)}
	}
	share := func(s string) autoscaling.MetricTarget {
		return autoscaling.MetricTarget{Type: autoscaling.AverageValueMetricType, AverageValue: quantity(s)}
	}
	const (
		inNamespace = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/"
		outside     = "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/m"
		ofCPU       = "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods"
		customList  = "custom.metrics.k8s.io/v1beta2"
	)
	list := func(v ...string) string { return values(customList, "MetricValueList", v...) }
	others := func(v ...string) string {
		return values("external.metrics.k8s.io/v1beta1", "ExternalMetricValueList", v...)
	}
	for _, c := range []struct {
		name    string
		spec    autoscaling.MetricSpec
		answers map[string]string
		want    int32
		label   string
		shown   string // of the status
		err     string
	}{
		{name: "pods over the average", spec: perPod, answers: map[string]string{inNamespace + "pods/*/m": list("30", "10")},
			want: 4, label: "pods metric m", shown: "20"},
		{name: "a pod without a value counts as idle", spec: perPod, answers: map[string]string{inNamespace + "pods/*/m": list("30")},
			want: 3, label: "pods metric m", shown: "30"},
		{name: "no API of pods' metrics", spec: perPod, err: "unable to get metric m: unable to fetch metrics from custom metrics API: nothing is measured"},
		{name: "no values of pods", spec: perPod, answers: map[string]string{inNamespace + "pods/*/m": list()},
			err: "unable to get metric m: no metrics returned from custom metrics API"},
		{name: "object's value", spec: object(service, value("100m")), answers: map[string]string{inNamespace + "services/web/m": list("300m")},
			want: 6, label: "Service metric m", shown: "300m"},
		{name: "object's value within the tolerance", spec: object(service, value("100")), answers: map[string]string{inNamespace + "services/web/m": list("109")},
			want: 2, label: "Service metric m", shown: "109"},
		{name: "object's value shared", spec: object(service, share("20")), answers: map[string]string{inNamespace + "services/web/m": list("101")},
			want: 6, label: "external metric m(nil)", shown: "50500m"},
		{name: "the namespace's own value", spec: object(autoscaling.CrossVersionObjectReference{APIVersion: "v1", Kind: "Namespace", Name: "other"}, value("1")),
			answers: map[string]string{inNamespace + "metrics/m": list("2")}, want: 4, label: "Namespace metric m", shown: "2"},
		{name: "no value of the object", spec: object(service, value("1")),
			err: "unable to get metric m: Service on ns web/unable to fetch metrics from custom metrics API: nothing is measured"},
		{name: "external values are added", spec: anything(value("10")), answers: map[string]string{outside: others("10", "15")},
			want: 5, label: "external metric m(nil)", shown: "25"},
		{name: "external values shared", spec: anything(share("10")), answers: map[string]string{outside: others("45")},
			want: 5, label: "external metric m(nil)", shown: "22500m"},
		{name: "no external value", spec: anything(value("10")), answers: map[string]string{outside: others()},
			err: "unable to get external metric ns/m/nil: no metrics returned from external metrics API"},
		{name: "CPU", spec: cpu(50), answers: map[string]string{ofCPU: usages("900m", "700m")},
			want: 4, label: "cpu resource utilization (percentage of request)", shown: "80%"},
		{name: "CPU is compared in whole percents", spec: cpu(50), answers: map[string]string{ofCPU: usages("559m", "559m")},
			want: 2, label: "cpu resource utilization (percentage of request)", shown: "55%"},
		{name: "no CPU", spec: cpu(50), answers: map[string]string{ofCPU: usages()},
			err: "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API"},
		{name: "no CPU of these pods", spec: cpu(50), answers: map[string]string{ofCPU: `{"apiVersion":"metrics.k8s.io/v1beta1","kind":"PodMetricsList","items":[{"metadata":{"name":"x"},"containers":[]}]}`},
			err: "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := round{Config: metricsServer(t, c.answers), pods: runningPods(2, start), current: 2, reported: 2, now: start.Add(10 * time.Minute),
				selector: labels.SelectorFromSet(labels.Set{"app": "a"}),
				h:        &autoscaling.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "h"}}}
			got, err := r.one(t.Context(), c.spec)
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Fatalf("got the error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := measured{replicas: c.want, label: c.label, status: got.status}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(measured{})); diff != "" {
				t.Error(diff)
			}
			if s := shown(got.status); s != c.shown {
				t.Errorf("the status shows %s, want %s", s, c.shown)
			}
		})
	}
}

func shown(s autoscaling.MetricStatus) string {
	var v autoscaling.MetricValueStatus
	switch {
	case s.Resource != nil:
		v = s.Resource.Current
	case s.Pods != nil:
		v = s.Pods.Current
	case s.Object != nil:
		v = s.Object.Current
	case s.External != nil:
		v = s.External.Current
	}
	switch {
	case v.AverageUtilization != nil:
		return fmt.Sprintf("%d%%", *v.AverageUtilization)
	case v.Value != nil:
		return v.Value.String()
	case v.AverageValue != nil:
		return v.AverageValue.String()
	}
	return "nothing"
}
