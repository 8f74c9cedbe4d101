package conformance

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func TestStorageUpdates(t *testing.T) {
	for name, kind := range map[string]string{
		// Conformance: [sig-storage] ConfigMap updates should be reflected in volume
		"configmap": configMap,
		// Conformance: [sig-storage] Projected configMap updates should be reflected in volume
		"projected-configmap": projectedConfigMap,
		"secret":              secret,
		"projected-secret":    projectedSecret,
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.setData(kind, "data", map[string]string{"data-1": "value-1"})
			s.ready(mounted(probePod("pod", "serve"), "/etc/volume", dataOf(kind, "data", nil, false)))
			s.lookUntil("pod", "main", "/etc/volume/data-1", ptr.To("value-1"))
			s.setData(kind, "data", map[string]string{"data-1": "value-2"})
			s.lookUntil("pod", "main", "/etc/volume/data-1", ptr.To("value-2"))
		})
	}
}

func TestStorageOptionalUpdates(t *testing.T) {
	for name, kind := range map[string]string{
		// Conformance: [sig-storage] ConfigMap optional updates should be reflected in volume
		"configmap": configMap,
		// Conformance: [sig-storage] Secrets optional updates should be reflected in volume
		"secret": secret,
		// Conformance: [sig-storage] Projected configMap optional updates should be reflected in volume
		"projected-configmap": projectedConfigMap,
		// Conformance: [sig-storage] Projected secret optional updates should be reflected in volume
		"projected-secret": projectedSecret,
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.setData(kind, "delete", map[string]string{"data-1": "value-1"})
			s.setData(kind, "update", map[string]string{"data-1": "value-1"})
			p := probePod("pod")
			p.Spec.Containers = nil
			for i, object := range []string{"delete", "update", "create"} {
				volume := fmt.Sprintf("volume-%d", i)
				p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: volume, VolumeSource: dataOf(kind, object, nil, true)})
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
					Name: object, Image: "probe", Args: []string{"sleep"},
					VolumeMounts: []corev1.VolumeMount{{Name: volume, MountPath: "/etc/volume", ReadOnly: true}},
				})
			}
			s.ready(p)
			s.lookUntil("pod", "create", "/etc/volume/data-1", nil)
			s.lookUntil("pod", "update", "/etc/volume/data-1", ptr.To("value-1"))
			s.lookUntil("pod", "update", "/etc/volume/data-3", nil)
			s.lookUntil("pod", "delete", "/etc/volume/data-1", ptr.To("value-1"))
			s.deleteData(kind, "delete")
			s.setData(kind, "update", map[string]string{"data-3": "value-3"})
			s.setData(kind, "create", map[string]string{"data-1": "value-1"})
			s.lookUntil("pod", "create", "/etc/volume/data-1", ptr.To("value-1"))
			s.lookUntil("pod", "update", "/etc/volume/data-3", ptr.To("value-3"))
			s.lookUntil("pod", "update", "/etc/volume/data-1", nil)
			s.lookUntil("pod", "delete", "/etc/volume/data-1", nil)
		})
	}
}

// An object that is deleted under a running pod leaves the pod as it is, and
// its containers are started again with what they had.
func TestStorageObjectDeletedUnderPod(t *testing.T) {
	for name, kind := range map[string]string{"configmap": configMap, "secret": secret, "projected": projectedSecret} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.setData(kind, "data", map[string]string{"data-1": "value-1"})
			p := mounted(probePod("pod", "serve"), "/etc/volume", dataOf(kind, "data", nil, false))
			p.Spec.RestartPolicy = corev1.RestartPolicyAlways
			s.ready(p)
			s.deleteData(kind, "data")
			if out, err := s.exec("pod", "main", "/probe", "get", "http://127.0.0.1:8080/exit?code=1"); err == nil {
				t.Errorf("the server answered: %s", out)
			}
			s.podIs("pod", "started again", func(p *corev1.Pod) bool {
				st := p.Status.ContainerStatuses
				return len(st) == 1 && st[0].RestartCount == 1 && st[0].Ready
			})
			s.lookUntil("pod", "main", "/etc/volume/data-1", ptr.To("value-1"))
		})
	}
}

// downwardItems is a volume of the pod's fields.
func downwardItems(projected bool, mode *int32, items ...corev1.DownwardAPIVolumeFile) corev1.VolumeSource {
	if projected {
		return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: mode, Sources: []corev1.VolumeProjection{
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: items}},
		}}}
	}
	return corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: items, DefaultMode: mode}}
}

// field is a file of a field of the pod.
func field(path string) corev1.DownwardAPIVolumeFile {
	return corev1.DownwardAPIVolumeFile{Path: "file", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
}

func TestStorageDownwardUpdates(t *testing.T) {
	for name, tc := range map[string]struct {
		projected    bool
		field        string
		patch, after string
	}{
		// Conformance: [sig-storage] Downward API volume should update labels on modification
		"labels": {false, "labels", `{"metadata":{"labels":{"key3":"value3"}}}`, "app=\"pod\"\nkey1=\"value1\"\nkey3=\"value3\""},
		// Conformance: [sig-storage] Downward API volume should update annotations on modification
		"annotations": {false, "annotations", `{"metadata":{"annotations":{"key3":"value \"3\""}}}`, "key1=\"value1\"\nkey3=\"value \\\"3\\\"\""},
		// Conformance: [sig-storage] Projected downwardAPI should update labels on modification
		"projected-labels": {true, "labels", `{"metadata":{"labels":{"key3":"value3"}}}`, "app=\"pod\"\nkey1=\"value1\"\nkey3=\"value3\""},
		// Conformance: [sig-storage] Projected downwardAPI should update annotations on modification
		"projected-annotations": {true, "annotations", `{"metadata":{"annotations":{"key3":"value3"}}}`, "key1=\"value1\"\nkey3=\"value3\""},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := mounted(probePod("pod", "serve"), "/etc/podinfo", downwardItems(tc.projected, nil, field("metadata."+tc.field)))
			before := "key1=\"value1\""
			if tc.field == "labels" {
				p.Labels["key1"] = "value1"
				before = "app=\"pod\"\n" + before
			} else {
				p.Annotations = map[string]string{"key1": "value1"}
			}
			s.ready(p)
			s.lookUntil("pod", "main", "/etc/podinfo/file", &before)
			_, err := s.client.CoreV1().Pods(s.name).Patch(s.ctx, "pod", types.StrategicMergePatchType, []byte(tc.patch), metav1.PatchOptions{})
			s.must(err)
			s.lookUntil("pod", "main", "/etc/podinfo/file", &tc.after)
		})
	}
}
