package conformance

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// on is where the kinds of volumes that show data live: secrets stay off the disk.
func on(kind string) string {
	if kind == configMap {
		return ""
	}
	return "tmpfs"
}

func TestStorageFiles(t *testing.T) {
	none, read, group := (*int32)(nil), ptr.To[int32](0o400), ptr.To[int32](0o440)
	at := func(mode *int32) []corev1.KeyToPath {
		return []corev1.KeyToPath{{Key: "data-2", Path: "path/to/data-2", Mode: mode}}
	}
	for name, tc := range map[string]struct {
		kind        string
		user, group int64
		mode        *int32
		items       []corev1.KeyToPath
		perm        string
	}{
		// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume
		"configmap": {configMap, 0, 0, none, nil, "-rw-r--r--"},
		// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume as non-root
		"configmap-non-root": {configMap, 1000, 0, none, nil, "-rw-r--r--"},
		// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume with defaultMode set [LinuxOnly]
		"configmap-mode": {configMap, 0, 0, read, nil, "-r--------"},
		// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume with mappings
		"configmap-mapped": {configMap, 0, 0, none, at(nil), "-rw-r--r--"},
		// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly]
		"configmap-mapped-mode": {configMap, 0, 0, none, at(read), "-r--------"},
		// Conformance: [sig-storage] ConfigMap should be consumable from pods in volume with mappings as non-root
		"configmap-mapped-non-root": {configMap, 1000, 0, none, at(nil), "-rw-r--r--"},
		"configmap-fsgroup":         {configMap, 1000, 1001, none, nil, "-rw-r--r--"},
		"configmap-fsgroup-mode":    {configMap, 1000, 1001, group, nil, "-r--r-----"},
		// Conformance: [sig-storage] Secrets should be consumable from pods in volume
		"secret": {secret, 0, 0, none, nil, "-rw-r--r--"},
		// Conformance: [sig-storage] Secrets should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly]
		"secret-fsgroup": {secret, 1000, 1001, group, nil, "-r--r-----"},
		// Conformance: [sig-storage] Secrets should be consumable from pods in volume with defaultMode set [LinuxOnly]
		"secret-mode": {secret, 0, 0, read, nil, "-r--------"},
		// Conformance: [sig-storage] Secrets should be consumable from pods in volume with mappings
		"secret-mapped": {secret, 0, 0, none, at(nil), "-rw-r--r--"},
		// Conformance: [sig-storage] Secrets should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly]
		"secret-mapped-mode": {secret, 0, 0, none, at(read), "-r--------"},
		// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume
		"projected-configmap": {projectedConfigMap, 0, 0, none, nil, "-rw-r--r--"},
		// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume as non-root
		"projected-configmap-non-root": {projectedConfigMap, 1000, 0, none, nil, "-rw-r--r--"},
		// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume with defaultMode set [LinuxOnly]
		"projected-configmap-mode": {projectedConfigMap, 0, 0, read, nil, "-r--------"},
		// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume with mappings
		"projected-configmap-mapped": {projectedConfigMap, 0, 0, none, at(nil), "-rw-r--r--"},
		// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume with mappings and Item mode set [LinuxOnly]
		"projected-configmap-mapped-mode": {projectedConfigMap, 0, 0, none, at(read), "-r--------"},
		// Conformance: [sig-storage] Projected configMap should be consumable from pods in volume with mappings as non-root
		"projected-configmap-mapped-non-root": {projectedConfigMap, 1000, 0, none, at(nil), "-rw-r--r--"},
		// Conformance: [sig-storage] Projected secret should be consumable from pods in volume
		"projected-secret": {projectedSecret, 0, 0, none, nil, "-rw-r--r--"},
		// Conformance: [sig-storage] Projected secret should be consumable from pods in volume as non-root with defaultMode and fsGroup set [LinuxOnly]
		"projected-secret-fsgroup": {projectedSecret, 1000, 1001, group, nil, "-r--r-----"},
		// Conformance: [sig-storage] Projected secret should be consumable from pods in volume with defaultMode set [LinuxOnly]
		"projected-secret-mode": {projectedSecret, 0, 0, read, nil, "-r--------"},
		// Conformance: [sig-storage] Projected secret should be consumable from pods in volume with mappings
		"projected-secret-mapped": {projectedSecret, 0, 0, none, at(nil), "-rw-r--r--"},
		// Conformance: [sig-storage] Projected secret should be consumable from pods in volume with mappings and Item Mode set [LinuxOnly]
		"projected-secret-mapped-mode": {projectedSecret, 0, 0, none, at(read), "-r--------"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.setData(tc.kind, "data", map[string]string{"data-1": "value-1", "data-2": "value-2", "data-3": "value-3"})
			path, hidden := "/etc/volume/data-2", "/etc/volume/no-such-key"
			if tc.items != nil {
				path, hidden = "/etc/volume/path/to/data-2", "/etc/volume/data-1"
			}
			p := as(mounted(probePod("pod", "look", path, hidden), "/etc/volume", dataOf(tc.kind, "data", tc.mode, false, tc.items...)), tc.user, tc.group)
			same(t, s.looks(p),
				seen{Path: path, FS: on(tc.kind), Perm: tc.perm, GID: tc.group, Content: "value-2"},
				seen{Path: hidden, Error: "stat " + hidden + ": no such file or directory"})
		})
	}
}

func TestStorageFilesInTwoVolumes(t *testing.T) {
	for name, kind := range map[string]string{
		// Conformance: [sig-storage] ConfigMap should be consumable in multiple volumes in the same pod
		"configmap": configMap,
		// Conformance: [sig-storage] Secrets should be consumable in multiple volumes in a pod
		"secret": secret,
		// Conformance: [sig-storage] Projected configMap should be consumable in multiple volumes in the same pod
		"projected-configmap": projectedConfigMap,
		// Conformance: [sig-storage] Projected secret should be consumable in multiple volumes in a pod
		"projected-secret": projectedSecret,
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.setData(kind, "data", map[string]string{"data-1": "value-1"})
			p := probePod("pod", "look", "/etc/one/data-1", "/etc/two/data-1")
			mounted(p, "/etc/one", dataOf(kind, "data", ptr.To[int32](0o400), false))
			mounted(p, "/etc/two", dataOf(kind, "data", ptr.To[int32](0o400), false))
			want := seen{Path: "/etc/one/data-1", FS: on(kind), Perm: "-r--------", Content: "value-1"}
			two := want
			two.Path = "/etc/two/data-1"
			same(t, s.looks(p), want, two)
		})
	}
}

// Conformance: [sig-storage] Secrets should be able to mount in a volume regardless of a different secret existing with same name in different namespace
func TestStorageSecretOfOwnNamespace(t *testing.T) {
	s := parallel(t)
	other := alone(t)
	other.setData(secret, "data", map[string]string{"data-1": "other", "data-2": "other"})
	s.setData(secret, "data", map[string]string{"data-1": "value-1"})
	p := mounted(probePod("pod", "look", "/etc/volume/data-1", "/etc/volume/data-2"), "/etc/volume", dataOf(secret, "data", nil, false))
	same(t, s.looks(p),
		seen{Path: "/etc/volume/data-1", FS: "tmpfs", Perm: "-rw-r--r--", Content: "value-1"},
		seen{Path: "/etc/volume/data-2", Error: "stat /etc/volume/data-2: no such file or directory"})
}

// Conformance: [sig-storage] ConfigMap binary data should be reflected in volume
func TestStorageConfigMapBinaryData(t *testing.T) {
	s := parallel(t)
	binary := string([]byte{0xde, 0xca, 0xfe, 0xba, 0xd0, 0xfe, 0xff, 0, '\n'})
	_, err := s.client.CoreV1().ConfigMaps(s.name).Create(s.ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "data"}, Data: map[string]string{"data-1": "value-1"}, BinaryData: map[string][]byte{"dump.bin": []byte(binary)},
	}, metav1.CreateOptions{})
	s.must(err)
	s.ready(mounted(probePod("pod", "serve"), "/etc/volume", dataOf(configMap, "data", nil, false)))
	for file, want := range map[string]string{"data-1": "value-1", "dump.bin": binary} {
		if got := s.mustExec("pod", "main", "/probe", "cat", "/etc/volume/"+file); got != want {
			t.Errorf("%s holds %q, want %q", file, got, want)
		}
	}
}

// What shows the API's data cannot be written to, so that nothing in the
// container can lead the node's writer elsewhere (CVE-2017-1002102).
func TestStorageFilesAreReadOnly(t *testing.T) {
	downward := corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
		{Path: "data-1", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}},
	}}}
	s := parallel(t)
	s.setData(configMap, "data", map[string]string{"data-1": "value-1"})
	s.setData(secret, "data", map[string]string{"data-1": "value-1"})
	p := shellPod("pod", `for v in /etc/v*; do touch $v/new && echo $v is writable; rm -rf $v/..data && echo $v lost its data; done 2>/dev/null; true`)
	mounted(p, "/etc/v1", downward)
	for i, kind := range []string{configMap, secret, projectedConfigMap, projectedSecret} {
		mounted(p, "/etc/v"+string(rune('2'+i)), dataOf(kind, "data", nil, false))
	}
	if out := s.output(p); out != "" {
		t.Error(out)
	}
}

func TestStorageImmutable(t *testing.T) {
	update := func(patch string) func(*space, string) error {
		return func(s *space, kind string) error {
			var err error
			if kind == configMap {
				_, err = s.client.CoreV1().ConfigMaps(s.name).Patch(s.ctx, "data", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			} else {
				_, err = s.client.CoreV1().Secrets(s.name).Patch(s.ctx, "data", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			}
			return err
		}
	}
	steps := []struct {
		what    string
		do      func(*space, string) error
		refused bool
	}{
		{"change data", update(`{"data":{"data-2":"dmFsdWU="}}`), false},
		{"mark it immutable", update(`{"immutable":true}`), false},
		{"change immutable data", update(`{"data":{"data-3":"dmFsdWU="}}`), true},
		{"take immutable back", update(`{"immutable":false}`), true},
		{"clear immutable", update(`{"immutable":null}`), true},
		{"change labels", update(`{"metadata":{"labels":{"a":"b"}}}`), false},
		{"delete", func(s *space, kind string) error { s.deleteData(kind, "data"); return nil }, false},
	}
	for name, kind := range map[string]string{
		// Conformance: [sig-storage] ConfigMap should be immutable if `immutable` field is set
		"configmap": configMap,
		// Conformance: [sig-storage] Secrets should be immutable if `immutable` field is set
		"secret": secret,
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.setData(kind, "data", map[string]string{"data-1": "value-1"})
			for _, step := range steps {
				if err := step.do(s, kind); step.refused && !apierrors.IsInvalid(err) || !step.refused && err != nil {
					t.Errorf("%s: %v, want it refused as invalid: %v", step.what, err, step.refused)
				}
			}
		})
	}
}
