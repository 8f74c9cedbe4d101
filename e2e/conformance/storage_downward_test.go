package conformance

import (
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// amount is a file of a resource of container main.
func amount(name string) corev1.DownwardAPIVolumeFile {
	return corev1.DownwardAPIVolumeFile{Path: "file", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "main", Resource: name}}
}

func TestStorageDownwardAPI(t *testing.T) {
	read := func(f corev1.DownwardAPIVolumeFile) corev1.DownwardAPIVolumeFile {
		f.Mode = ptr.To[int32](0o400)
		return f
	}
	const plain = "-rw-r--r--"
	for name, tc := range map[string]struct {
		projected     bool
		item          corev1.DownwardAPIVolumeFile
		mode          *int32
		user, group   int64
		perm, content string
	}{
		// Conformance: [sig-storage] Downward API volume should provide podname only
		"podname": {false, field("metadata.name"), nil, 0, 0, plain, "pod"},
		// Conformance: [sig-storage] Downward API volume should set DefaultMode on files [LinuxOnly]
		"mode": {false, field("metadata.name"), ptr.To[int32](0o400), 0, 0, "-r--------", "pod"},
		// Conformance: [sig-storage] Downward API volume should set mode on item file [LinuxOnly]
		"item-mode":         {false, read(field("metadata.name")), nil, 0, 0, "-r--------", "pod"},
		"non-root-fsgroup":  {false, field("metadata.name"), nil, 1000, 1234, plain, "pod"},
		"non-root-mode":     {false, field("metadata.name"), ptr.To[int32](0o440), 1000, 1234, "-r--r-----", "pod"},
		"label":             {false, field("metadata.labels['app']"), nil, 0, 0, plain, "pod"},
		"ephemeral-storage": {false, amount("limits.ephemeral-storage"), nil, 0, 0, plain, "1073741824"},
		// Conformance: [sig-storage] Downward API volume should provide container's cpu limit
		"cpu-limit": {false, amount("limits.cpu"), nil, 0, 0, plain, "2"},
		// Conformance: [sig-storage] Downward API volume should provide container's memory limit
		"memory-limit": {false, amount("limits.memory"), nil, 0, 0, plain, "67108864"},
		// Conformance: [sig-storage] Downward API volume should provide container's cpu request
		"cpu-request": {false, amount("requests.cpu"), nil, 0, 0, plain, "1"},
		// Conformance: [sig-storage] Downward API volume should provide container's memory request
		"memory-request": {false, amount("requests.memory"), nil, 0, 0, plain, "33554432"},
		// Conformance: [sig-storage] Projected downwardAPI should provide podname only
		"projected-podname": {true, field("metadata.name"), nil, 0, 0, plain, "pod"},
		// Conformance: [sig-storage] Projected downwardAPI should set DefaultMode on files [LinuxOnly]
		"projected-mode": {true, field("metadata.name"), ptr.To[int32](0o400), 0, 0, "-r--------", "pod"},
		// Conformance: [sig-storage] Projected downwardAPI should set mode on item file [LinuxOnly]
		"projected-item-mode": {true, read(field("metadata.name")), nil, 0, 0, "-r--------", "pod"},
		// Conformance: [sig-storage] Projected downwardAPI should provide container's cpu limit
		"projected-cpu-limit": {true, amount("limits.cpu"), nil, 0, 0, plain, "2"},
		// Conformance: [sig-storage] Projected downwardAPI should provide container's memory limit
		"projected-memory-limit": {true, amount("limits.memory"), nil, 0, 0, plain, "67108864"},
		// Conformance: [sig-storage] Projected downwardAPI should provide container's cpu request
		"projected-cpu-request": {true, amount("requests.cpu"), nil, 0, 0, plain, "1"},
		// Conformance: [sig-storage] Projected downwardAPI should provide container's memory request
		"projected-memory-request": {true, amount("requests.memory"), nil, 0, 0, plain, "33554432"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := as(mounted(probePod("pod", "look", "/etc/podinfo/file"), "/etc/podinfo", downwardItems(tc.projected, tc.mode, tc.item)), tc.user, tc.group)
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("32Mi")},
				Limits:   corev1.ResourceList{"cpu": resource.MustParse("1250m"), "memory": resource.MustParse("64Mi"), "ephemeral-storage": resource.MustParse("1Gi")},
			}
			got := s.looks(p)
			same(t, got, seen{Path: "/etc/podinfo/file", FS: "tmpfs", Perm: tc.perm, GID: tc.group, Content: tc.content})
		})
	}
}

func TestStorageDownwardAllocatable(t *testing.T) {
	for name, tc := range map[string]struct {
		projected bool
		resource  corev1.ResourceName
	}{
		// Conformance: [sig-storage] Downward API volume should provide node allocatable (cpu) as default cpu limit if the limit is not set
		"cpu": {false, corev1.ResourceCPU},
		// Conformance: [sig-storage] Downward API volume should provide node allocatable (memory) as default memory limit if the limit is not set
		"memory": {false, corev1.ResourceMemory},
		// Conformance: [sig-storage] Projected downwardAPI should provide node allocatable (cpu) as default cpu limit if the limit is not set
		"projected-cpu": {true, corev1.ResourceCPU},
		// Conformance: [sig-storage] Projected downwardAPI should provide node allocatable (memory) as default memory limit if the limit is not set
		"projected-memory": {true, corev1.ResourceMemory},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := mounted(probePod("pod", "look", "/etc/podinfo/file"), "/etc/podinfo", downwardItems(tc.projected, nil, amount("limits."+string(tc.resource))))
			got := s.looks(p)[0].Content
			ran, err := s.client.CoreV1().Pods(s.name).Get(s.ctx, "pod", metav1.GetOptions{})
			s.must(err)
			node, err := s.client.CoreV1().Nodes().Get(s.ctx, ran.Spec.NodeName, metav1.GetOptions{})
			s.must(err)
			q := node.Status.Allocatable[tc.resource]
			if want := strconv.FormatInt(q.Value(), 10); got != want || want == "0" {
				t.Errorf("the file says %q, want the node's %s", got, want)
			}
		})
	}
}

// Conformance: [sig-storage] Projected combined should project all components that make up the projection API [Projection]
func TestStorageProjectedCombined(t *testing.T) {
	s := parallel(t)
	s.setData(configMap, "config", map[string]string{"configmap-data": "configmap-value-1"})
	s.setData(secret, "secret", map[string]string{"secret-data": "secret-value-1"})
	src := dataOf(projectedSecret, "secret", nil, false, corev1.KeyToPath{Key: "secret-data", Path: "secret-data"})
	src.Projected.Sources = append(src.Projected.Sources,
		dataOf(projectedConfigMap, "config", nil, false, corev1.KeyToPath{Key: "configmap-data", Path: "configmap-data"}).Projected.Sources[0],
		downwardItems(true, nil, field("metadata.name")).Projected.Sources[0],
		corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "limits/cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "main", Resource: "limits.cpu"}},
			{Path: "requests/memory", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "main", Resource: "requests.memory", Divisor: resource.MustParse("1Mi")}},
		}}})
	want := map[string]string{
		"file": "pod", "secret-data": "secret-value-1", "configmap-data": "configmap-value-1", "limits/cpu": "2", "requests/memory": "32",
	}
	var paths []string
	for name := range want {
		paths = append(paths, "/all/"+name)
	}
	p := mounted(probePod("pod", append([]string{"look"}, paths...)...), "/all", src)
	p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"memory": resource.MustParse("32Mi")},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("1250m"), "memory": resource.MustParse("64Mi")},
	}
	for _, got := range s.looks(p) {
		if w := want[got.Path[len("/all/"):]]; got.Content != w || got.Perm != "-rw-r--r--" {
			t.Errorf("%+v, want content %q", got, w)
		}
	}
}
