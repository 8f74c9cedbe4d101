package core

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestDropUnknownSources(t *testing.T) {
	type spec = corev1.PersistentVolumeClaimSpec
	source := func(kind string) *corev1.TypedLocalObjectReference {
		return &corev1.TypedLocalObjectReference{APIGroup: ptr.To("x.io"), Kind: kind, Name: "n"}
	}
	ref := func(namespace *string) *corev1.TypedObjectReference {
		return &corev1.TypedObjectReference{APIGroup: ptr.To("x.io"), Kind: "K", Name: "n", Namespace: namespace}
	}
	claim := &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "n"}
	for _, tc := range []struct {
		name      string
		old       *spec
		has, want spec
	}{
		{"a claim", nil, spec{DataSource: claim}, spec{DataSource: claim}},
		{"another kind", nil, spec{DataSource: source("K")}, spec{}},
		{"another kind, later", &spec{}, spec{DataSource: source("K")}, spec{}},
		{"another kind, told both ways", nil, spec{DataSource: source("J"), DataSourceRef: ref(nil)}, spec{DataSource: source("J"), DataSourceRef: ref(nil)}},
		{"another kind that is stored", &spec{DataSource: source("K")}, spec{DataSource: source("K")}, spec{DataSource: source("K")}},
		{"another namespace", nil, spec{DataSourceRef: ref(ptr.To("m"))}, spec{}},
		{"another namespace that is stored", &spec{DataSourceRef: ref(ptr.To("m"))}, spec{DataSourceRef: ref(ptr.To("m"))}, spec{DataSourceRef: ref(ptr.To("m"))}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dropUnknownSources(&tc.has, tc.old)
			if d := cmp.Diff(tc.want, tc.has); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDropNodeConfig(t *testing.T) {
	with := func(s *corev1.NodeConfigSource) *corev1.Node {
		return &corev1.Node{Spec: corev1.NodeSpec{ConfigSource: s}}
	}
	source := &corev1.NodeConfigSource{ConfigMap: &corev1.ConfigMapNodeConfigSource{Name: "m"}}
	for _, tc := range []struct {
		name string
		old  *corev1.Node
		want *corev1.NodeConfigSource
	}{
		{"new", nil, nil},
		{"later", with(nil), nil},
		{"stored", with(source), source},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := with(source)
			dropNodeConfig(n, tc.old)
			if d := cmp.Diff(tc.want, n.Spec.ConfigSource); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDropPodStatus(t *testing.T) {
	full := func() corev1.PodStatus {
		return corev1.PodStatus{
			VolumeHealth:                         make([]corev1.PodVolumeHealth, 1),
			NodeAllocatableResourceClaimStatuses: make([]corev1.NodeAllocatableResourceClaimStatus, 1),
		}
	}
	for _, tc := range []struct {
		name      string
		old, want corev1.PodStatus
	}{
		{"new", corev1.PodStatus{}, corev1.PodStatus{}},
		{"stored", full(), full()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := full()
			dropPodStatus(&got, &tc.old)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
