package conformance

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"
)

// absent is an image that no registry of the tests has.
const absent = "docker.io/library/webserver:404"

// template is the pod template of an application, labelled app=name.
func template(name string, args ...string) corev1.PodTemplateSpec {
	p := probePod(name, args...)
	p.Spec.RestartPolicy = ""
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: p.Labels}, Spec: p.Spec}
}

func appSelector(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: named(name), Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Selector: appSelector(name), Template: template(name),
	}}
}

func replicaSet(name string, replicas int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: named(name), Spec: appsv1.ReplicaSetSpec{
		Replicas: &replicas, Selector: appSelector(name), Template: template(name),
	}}
}

func statefulSet(name string, replicas int32) *appsv1.StatefulSet {
	set := &appsv1.StatefulSet{ObjectMeta: named(name), Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, Selector: appSelector(name), Template: template(name), ServiceName: name,
	}}
	set.Spec.Template.Spec.Containers[0].ReadinessProbe = readyProbe()
	return set
}

func daemonSet(name string) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: named(name), Spec: appsv1.DaemonSetSpec{
		Selector: appSelector(name), Template: template(name),
	}}
}

func controller(name string, replicas int32) *corev1.ReplicationController {
	t := template(name)
	return &corev1.ReplicationController{ObjectMeta: named(name), Spec: corev1.ReplicationControllerSpec{
		Replicas: &replicas, Selector: map[string]string{"app": name}, Template: &t,
	}}
}

// podsOf are the pods of an application that are not being deleted.
func (s *space) podsOf(app string) []corev1.Pod {
	s.t.Helper()
	list, err := s.client.CoreV1().Pods(s.name).List(s.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	s.must(err)
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods
}

// running waits until an application has n pods and all are Ready.
func (s *space) running(app string, n int) []corev1.Pod {
	s.t.Helper()
	var pods []corev1.Pod
	s.eventually(90*time.Second, fmt.Sprintf("%d ready pods of %s", n, app), func() error {
		pods = s.podsOf(app)
		ready := 0
		for _, p := range pods {
			if podReady(&p) {
				ready++
			}
		}
		if len(pods) != n || ready != n {
			return fmt.Errorf("there are %d, %d of them ready", len(pods), ready)
		}
		return nil
	})
	return pods
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// setReady makes the readiness probe of a serving pod pass or fail.
func (s *space) setReady(pod string, ok bool) {
	s.t.Helper()
	s.must(s.client.CoreV1().RESTClient().Post().Namespace(s.name).Resource("pods").Name(pod+":8080").
		SubResource("proxy").Suffix("readyz").Param("ok", fmt.Sprint(ok)).Do(s.ctx).Error())
}

// json is a patch or body.
func (s *space) json(v any) []byte {
	s.t.Helper()
	b, err := json.Marshal(v)
	s.must(err)
	return b
}

// object is a typed object as the dynamic client sends it.
func (s *space) object(obj runtime.Object, gvk schema.GroupVersionKind) *unstructured.Unstructured {
	s.t.Helper()
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	s.must(err)
	u := &unstructured.Unstructured{Object: m}
	u.SetGroupVersionKind(gvk)
	return u
}

// seen waits for a watch event of which is says that it is the one.
func (s *space) seen(w watch.Interface, what string, is func(watch.EventType, runtime.Object) bool) {
	s.t.Helper()
	end := time.After(60 * time.Second)
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				s.t.Fatalf("the watch ended before %s", what)
			}
			if e.Type == watch.Error {
				s.t.Fatalf("%s: %v", what, apierrors.FromObject(e.Object))
			}
			if is(e.Type, e.Object) {
				return
			}
		case <-end:
			s.t.Fatalf("no watch event of %s", what)
		}
	}
}

// gone waits until get finds nothing.
func (s *space) gone(what string, get func() error) {
	s.t.Helper()
	s.eventually(60*time.Second, what+" is gone", func() error {
		switch err := get(); {
		case apierrors.IsNotFound(err):
			return nil
		case err == nil:
			return errors.New("it is there")
		default:
			return err
		}
	})
}

// workload is a kind of replicated application for the rows that all kinds have.
type workload struct {
	name string
	gvk  schema.GroupVersionKind
	gvr  schema.GroupVersionResource
	make func(name string) runtime.Object
}

func workloads() map[string]workload {
	apps := schema.GroupVersion{Group: "apps", Version: "v1"}
	out := map[string]workload{}
	for _, w := range []workload{
		{"Deployment", apps.WithKind("Deployment"), apps.WithResource("deployments"), func(n string) runtime.Object { return deployment(n, 1) }},
		{"ReplicaSet", apps.WithKind("ReplicaSet"), apps.WithResource("replicasets"), func(n string) runtime.Object { return replicaSet(n, 1) }},
		{"StatefulSet", apps.WithKind("StatefulSet"), apps.WithResource("statefulsets"), func(n string) runtime.Object { return statefulSet(n, 1) }},
		{"DaemonSet", apps.WithKind("DaemonSet"), apps.WithResource("daemonsets"), func(n string) runtime.Object { return daemonSet(n) }},
		{
			"ReplicationController", corev1.SchemeGroupVersion.WithKind("ReplicationController"),
			corev1.SchemeGroupVersion.WithResource("replicationcontrollers"), func(n string) runtime.Object { return controller(n, 1) },
		},
	} {
		out[w.name] = w
	}
	return out
}

func (s *space) resource(w workload) dynamic.ResourceInterface {
	return s.dynamic.Resource(w.gvr).Namespace(s.name)
}

// start makes a workload and waits for its first pod.
func (s *space) start(w workload, name string) {
	s.t.Helper()
	_, err := s.resource(w).Create(s.ctx, s.object(w.make(name), w.gvk), metav1.CreateOptions{})
	s.must(err)
	s.eventually(60*time.Second, "a ready pod of "+name, func() error {
		for _, p := range s.podsOf(name) {
			if podReady(&p) {
				return nil
			}
		}
		return errors.New("none is")
	})
}

// Conformance: [sig-apps] Deployment Deployment should have a working scale subresource
// Conformance: [sig-apps] ReplicaSet Replicaset should have a working scale subresource
// Conformance: [sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource
// Conformance: [sig-apps] ReplicationController should get and update a ReplicationController scale
func TestAppsScale(t *testing.T) {
	for _, kind := range []string{"Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"} {
		w := workloads()[kind]
		t.Run(kind, func(t *testing.T) {
			s := parallel(t)
			s.start(w, "app")
			scale, err := s.resource(w).Get(s.ctx, "app", metav1.GetOptions{}, "scale")
			s.must(err)
			if kind, group := scale.GetKind(), scale.GroupVersionKind().Group; kind != "Scale" || group != "autoscaling" {
				t.Errorf("the scale is a %s of %s", kind, group)
			}
			field := func(u *unstructured.Unstructured, path ...string) any {
				v, _, err := unstructured.NestedFieldNoCopy(u.Object, path...)
				s.must(err)
				return v
			}
			if got := field(scale, "spec", "replicas"); got != int64(1) {
				t.Errorf("the scale wants %v replicas, want 1", got)
			}
			if got := field(scale, "status", "selector"); got != "app=app" {
				t.Errorf("the scale's selector is %v", got)
			}
			scale.SetResourceVersion("") // as one who does not care who else changed it
			s.must(unstructured.SetNestedField(scale.Object, int64(2), "spec", "replicas"))
			updated, err := s.resource(w).Update(s.ctx, scale, metav1.UpdateOptions{}, "scale")
			s.must(err)
			if got := field(updated, "spec", "replicas"); got != int64(2) {
				t.Errorf("the updated scale wants %v replicas, want 2", got)
			}
			has := func(want int64) {
				t.Helper()
				obj, err := s.resource(w).Get(s.ctx, "app", metav1.GetOptions{})
				s.must(err)
				if got := field(obj, "spec", "replicas"); got != want {
					t.Errorf("the object wants %v replicas, want %d", got, want)
				}
			}
			has(2)
			s.running("app", 2)
			for i, patchType := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
				want := int64(4 - i)
				got, err := s.resource(w).Patch(s.ctx, "app", patchType, s.json(map[string]any{"spec": map[string]any{"replicas": want}}), metav1.PatchOptions{}, "scale")
				s.must(err)
				if got := field(got, "spec", "replicas"); got != want {
					t.Errorf("%s: the scale wants %v replicas, want %d", patchType, got, want)
				}
				has(want)
			}
			s.running("app", 3)
			s.eventually(10*time.Second, "the scale's count", func() error {
				scale, err := s.resource(w).Get(s.ctx, "app", metav1.GetOptions{}, "scale")
				if err == nil && field(scale, "status", "replicas") != int64(3) {
					err = fmt.Errorf("it is %v", field(scale, "status", "replicas"))
				}
				return err
			})
		})
	}
}

// readyProbe asks the probe image's /readyz each second.
func readyProbe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: portNumber(8080)}},
		PeriodSeconds: 1, FailureThreshold: 1, TimeoutSeconds: 5,
	}
}

// owner is the controller of an object.
func owner(obj metav1.Object) metav1.OwnerReference {
	return ptr.Deref(metav1.GetControllerOf(obj), metav1.OwnerReference{})
}
