package environment

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestExpand(t *testing.T) {
	lookup := In(map[string]string{"A": "a", "B": "$(A)"})
	for in, want := range map[string]string{
		"plain": "plain", "$(A)": "a", "x$(A)y$(A)": "xaya", "$$(A)": "$(A)", "$(MISSING)": "$(MISSING)",
		"$(B)": "$(A)", "$": "$", "$(A": "$(A", "$x": "$x", "a$$$(A)": "a$a", "$()": "$()",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestBuild(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u", Labels: map[string]string{"l": "lv"}}}
	pod.Spec.NodeName = "n"
	service := &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: "my-db", Namespace: "ns"}, Spec: v1.ServiceSpec{ClusterIP: "10.0.0.5", Ports: []v1.ServicePort{{Name: "sql", Port: 5432, Protocol: v1.ProtocolTCP}}}}
	field := func(p string) *v1.EnvVarSource {
		return &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: p}}
	}
	resourceRef := func(r, div string) *v1.EnvVarSource {
		s := &v1.ResourceFieldSelector{Resource: r}
		if div != "" {
			s.Divisor = resource.MustParse(div)
		}
		return &v1.EnvVarSource{ResourceFieldRef: s}
	}
	src := Sources{
		ConfigMap: func(_, name string) (*v1.ConfigMap, error) {
			if name != "cm" {
				return nil, apierrors.NewNotFound(v1.Resource("configmaps"), name)
			}
			return &v1.ConfigMap{Data: map[string]string{"k": "v", "A": "from-cm"}}, nil
		},
		Secret: func(_, name string) (*v1.Secret, error) {
			if name != "s" {
				return nil, apierrors.NewNotFound(v1.Resource("secrets"), name)
			}
			return &v1.Secret{Data: map[string][]byte{"pw": []byte("x")}}, nil
		},
		Services: []*v1.Service{service},
		HostIPs:  []string{"1.1.1.1", "::1"}, PodIPs: []string{"10.1.1.1"},
		Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("8Gi")},
	}
	cases := map[string]struct {
		c    v1.Container
		want map[string]string
		err  string
	}{
		"expansion sees earlier, envFrom and services": {
			c: v1.Container{
				EnvFrom: []v1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}}},
				Env:     []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)-$(P_k)-$(MY_DB_SERVICE_HOST)-$(C)"}, {Name: "C", Value: "3"}},
			},
			want: map[string]string{"P_A": "from-cm", "P_k": "v", "A": "1", "B": "1-v-10.0.0.5-$(C)", "C": "3"},
		},
		"fields": {
			c:    v1.Container{Env: []v1.EnvVar{{Name: "N", ValueFrom: field("metadata.name")}, {Name: "L", ValueFrom: field("metadata.labels['l']")}, {Name: "H", ValueFrom: field("status.hostIPs")}, {Name: "I", ValueFrom: field("status.podIP")}, {Name: "NODE", ValueFrom: field("spec.nodeName")}}},
			want: map[string]string{"N": "p", "L": "lv", "H": "1.1.1.1,::1", "I": "10.1.1.1", "NODE": "n"},
		},
		"unknown field": {
			c: v1.Container{Env: []v1.EnvVar{{Name: "N", ValueFrom: field("spec.x")}}}, err: "unsupported fieldPath: spec.x",
		},
		"missing config map": {
			c:   v1.Container{EnvFrom: []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "no"}}}}},
			err: `configmaps "no" not found`,
		},
		"missing key": {
			c:   v1.Container{Env: []v1.EnvVar{{Name: "N", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "s"}, Key: "z"}}}}},
			err: "couldn't find key z in Secret ns/s",
		},
		"missing but optional": {
			c: v1.Container{Env: []v1.EnvVar{{Name: "N", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "no"}, Key: "z", Optional: ptr.To(true)}}}}},
		},
		"resources fall back to allocatable": {
			c:    v1.Container{Name: "c", Env: []v1.EnvVar{{Name: "CPU", ValueFrom: resourceRef("limits.cpu", "")}, {Name: "MEM", ValueFrom: resourceRef("limits.memory", "1Mi")}, {Name: "RC", ValueFrom: resourceRef("requests.cpu", "1m")}}},
			want: map[string]string{"CPU": "4", "MEM": "8192", "RC": "250"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p := pod.DeepCopy()
			p.Spec.Containers = []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("250m")}}}}
			vars, err := Build(p, &tc.c, src)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := Map(vars)
			if got["MY_DB_PORT_5432_TCP_ADDR"] != "10.0.0.5" || got["MY_DB_PORT"] != "tcp://10.0.0.5:5432" {
				t.Errorf("service variables missing: %v", got)
			}
			for k := range Map(oneService(service)) {
				delete(got, k)
			}
			if tc.want == nil {
				tc.want = map[string]string{}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseFile(t *testing.T) {
	got, err := ParseFile("# c\n\nA='1'\nB='two\nlines' # tail\n")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"A": "1", "B": "two\nlines"}, got); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"A=1", "A='1", "nothing", "A='1' x", "A = '1'"} {
		if _, err := ParseFile(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
