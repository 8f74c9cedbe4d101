package core

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func texts(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Error())
	}
	return out
}

func testPod(change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "busybox"}}},
	}
	if change != nil {
		change(pod)
	}
	podDefaults(pod)
	return pod
}

func TestValidatePod(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*corev1.Pod)
		want   []string
	}{
		{"as defaulted", nil, nil},
		{"no containers", func(p *corev1.Pod) { p.Spec.Containers = nil }, []string{"spec.containers: Required value"}},
		{"no image", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" }, []string{"spec.containers[0].image: Required value"}},
		{"unknown field", func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.no"}}}}
		}, []string{`spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.no": error converting fieldPath: field label not supported: spec.no`}},
		{"label by key", func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['app']"}}}}
		}, nil},
		{"request above limit", func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("2")}, Limits: corev1.ResourceList{"cpu": resource.MustParse("1")}}
		}, []string{`spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`}},
		{"mount without volume", func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}, []string{`spec.containers[0].volumeMounts[0].name: Not found: "v"`}},
		{"ephemeral container on create", func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "i"}}}
		}, []string{"spec.ephemeralContainers: Forbidden: cannot be set on create"}},
		{"gated and placed", func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.SchedulingGates = "n", []corev1.PodSchedulingGate{{Name: "example.com/g"}}
		}, []string{"spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, texts(validatePod(context.Background(), testPod(tc.change)))); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidatePodUpdate(t *testing.T) {
	for _, tc := range []struct {
		name     string
		old, now func(*corev1.Pod)
		want     string
	}{
		{"image", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other:1" }, "spec: Forbidden: pod updates may not change fields other than"},
		{"added container", nil, func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "i"})
		}, "spec.containers: Forbidden: pod updates may not add or remove containers"},
		{"command", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"x"} },
			"spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"},
		{"new gate", nil, func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/g"}} },
			"only deletion is allowed, but found new scheduling gate 'example.com/g'"},
		{"longer deadline", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](5) },
			func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr.To[int64](9) }, "must be less than or equal to previous value"},
		{"toleration removed", func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Operator: "Exists"}} }, nil,
			"spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old, now := testPod(tc.old), testPod(tc.now)
			if tc.name == "image" {
				// The pull policy follows the tag only when it is not set.
				now.Spec.Containers[0].ImagePullPolicy = old.Spec.Containers[0].ImagePullPolicy
				if errs := validatePodUpdate(context.Background(), now, old); len(errs) != 0 {
					t.Errorf("an image may change, but: %v", errs)
				}
				return
			}
			if got := strings.Join(texts(validatePodUpdate(context.Background(), now, old)), "\n"); !strings.Contains(got, tc.want) {
				t.Errorf("got %q, which does not say %q", got, tc.want)
			}
		})
	}
}

func TestValidateService(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*corev1.Service)
		want   []string
	}{
		{"plain", nil, nil},
		{"no ports", func(s *corev1.Service) { s.Spec.Ports = nil }, []string{"spec.ports: Required value"}},
		{"bad port", func(s *corev1.Service) { s.Spec.Ports[0].Port, s.Spec.Ports[0].TargetPort.IntVal = 0, 80 },
			[]string{"spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"}},
		{"node port of a ClusterIP", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30000 },
			[]string{"spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"}},
		{"type", func(s *corev1.Service) { s.Spec.Type = "X" },
			[]string{`spec.type: Unsupported value: "X": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"`}},
		{"external name missing", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName },
			[]string{"spec.externalName: Required value"}},
		{"two ports without names", func(s *corev1.Service) { s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 81, Name: "b"}) },
			[]string{"spec.ports[0].name: Required value"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
			if tc.change != nil {
				tc.change(s)
			}
			serviceDefaults(s)
			if diff := cmp.Diff(tc.want, texts(validateService(context.Background(), s))); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateData(t *testing.T) {
	ctx := context.Background()
	fixed := &corev1.ConfigMap{Immutable: ptr.To(true), Data: map[string]string{"a": "b"}}
	changed := &corev1.ConfigMap{Immutable: ptr.To(true), Data: map[string]string{"a": "c"}}
	for _, tc := range []struct {
		name string
		errs field.ErrorList
		want []string
	}{
		{"immutable map", validateConfigMapUpdate(ctx, changed, fixed), []string{"data: Forbidden: field is immutable when `immutable` is set"}},
		{"half a TLS secret", validateSecret(ctx, &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": nil}}),
			[]string{"data[tls.key]: Required value"}},
		{"secret of another type", validateSecretUpdate(ctx, &corev1.Secret{Type: "b"}, &corev1.Secret{Type: "a"}),
			[]string{`type: Invalid value: "b": field is immutable`}},
		{"quota of unknown", validateQuota(ctx, &corev1.ResourceQuota{Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"foo": resource.MustParse("1")}}}),
			[]string{`spec.hard[foo]: Invalid value: "foo": must be a standard resource type or fully qualified`, `spec.hard[foo]: Invalid value: "foo": must be a standard resource for quota`}},
		{"claim without size", validatePVC(ctx, &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}}}),
			[]string{"spec.resources[storage]: Required value"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, texts(tc.errs)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}
