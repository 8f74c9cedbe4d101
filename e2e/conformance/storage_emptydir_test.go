package conformance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func emptyDir(medium corev1.StorageMedium) corev1.VolumeSource {
	return corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: medium}}
}

// fileSystem is what look tells of a volume on the medium.
func fileSystem(medium corev1.StorageMedium) string {
	if medium == corev1.StorageMediumMemory {
		return "tmpfs"
	}
	return ""
}

func TestStorageEmptyDir(t *testing.T) {
	const disk, memory = corev1.StorageMediumDefault, corev1.StorageMediumMemory
	for name, tc := range map[string]struct {
		user, group int64
		mode, perm  string
		medium      corev1.StorageMedium
	}{
		// Conformance: [sig-storage] EmptyDir volumes should support (root,0644,tmpfs) [LinuxOnly]
		"root-0644-tmpfs": {0, 0, "0644", "-rw-r--r--", memory},
		// Conformance: [sig-storage] EmptyDir volumes should support (root,0666,tmpfs) [LinuxOnly]
		"root-0666-tmpfs": {0, 0, "0666", "-rw-rw-rw-", memory},
		// Conformance: [sig-storage] EmptyDir volumes should support (root,0777,tmpfs) [LinuxOnly]
		"root-0777-tmpfs": {0, 0, "0777", "-rwxrwxrwx", memory},
		// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0644,tmpfs) [LinuxOnly]
		"non-root-0644-tmpfs": {1000, 0, "0644", "-rw-r--r--", memory},
		// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0666,tmpfs) [LinuxOnly]
		"non-root-0666-tmpfs": {1000, 0, "0666", "-rw-rw-rw-", memory},
		// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0777,tmpfs) [LinuxOnly]
		"non-root-0777-tmpfs": {1000, 0, "0777", "-rwxrwxrwx", memory},
		// Conformance: [sig-storage] EmptyDir volumes should support (root,0644,default) [LinuxOnly]
		"root-0644-default": {0, 0, "0644", "-rw-r--r--", disk},
		// Conformance: [sig-storage] EmptyDir volumes should support (root,0666,default) [LinuxOnly]
		"root-0666-default": {0, 0, "0666", "-rw-rw-rw-", disk},
		// Conformance: [sig-storage] EmptyDir volumes should support (root,0777,default) [LinuxOnly]
		"root-0777-default": {0, 0, "0777", "-rwxrwxrwx", disk},
		// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0644,default) [LinuxOnly]
		"non-root-0644-default": {1000, 0, "0644", "-rw-r--r--", disk},
		// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0666,default) [LinuxOnly]
		"non-root-0666-default": {1000, 0, "0666", "-rw-rw-rw-", disk},
		// Conformance: [sig-storage] EmptyDir volumes should support (non-root,0777,default) [LinuxOnly]
		"non-root-0777-default":   {1000, 0, "0777", "-rwxrwxrwx", disk},
		"fsgroup-non-root-tmpfs":  {1000, 123, "0644", "-rw-r--r--", memory},
		"fsgroup-root-default":    {0, 123, "0644", "-rw-r--r--", disk},
		"fsgroup-private-default": {1000, 123, "0600", "-rw-------", disk},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := as(mounted(probePod("pod", "create", "/test-volume/file", tc.mode, "mount-tester new file\n"), "/test-volume", emptyDir(tc.medium)), tc.user, tc.group)
			same(t, s.looks(p),
				seen{Path: "/test-volume/file", FS: fileSystem(tc.medium), Perm: tc.perm, UID: tc.user, GID: tc.group, Content: "mount-tester new file\n"})
		})
	}
}

func TestStorageEmptyDirMode(t *testing.T) {
	for name, tc := range map[string]struct {
		group  int64
		medium corev1.StorageMedium
	}{
		// Conformance: [sig-storage] EmptyDir volumes volume on default medium should have the correct mode [LinuxOnly]
		"default": {0, corev1.StorageMediumDefault},
		// Conformance: [sig-storage] EmptyDir volumes volume on tmpfs should have the correct mode [LinuxOnly]
		"tmpfs":         {0, corev1.StorageMediumMemory},
		"fsgroup":       {123, corev1.StorageMediumDefault},
		"fsgroup-tmpfs": {123, corev1.StorageMediumMemory},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := as(mounted(probePod("pod", "look", "/test-volume"), "/test-volume", emptyDir(tc.medium)), 0, tc.group)
			same(t, s.looks(p), seen{Path: "/test-volume", FS: fileSystem(tc.medium), Perm: "-rwxrwxrwx", SetGID: tc.group != 0, GID: tc.group})
		})
	}
}

// Conformance: [sig-storage] EmptyDir volumes pod should support shared volumes between containers
func TestStorageEmptyDirShared(t *testing.T) {
	s := parallel(t)
	p := shellPod("pod", "until cat /pod-data/shareddata.txt; do sleep 0.1; done; sleep 3600")
	sub := *p.Spec.Containers[0].DeepCopy()
	sub.Name, sub.Command[2] = "sub", "echo Hello from the sub-container > /pod-data/shareddata.txt; sleep 3600"
	p.Spec.Containers = append(p.Spec.Containers, sub)
	s.ready(mounted(p, "/pod-data", emptyDir("")))
	s.eventually(30*time.Second, "the shared file", func() error {
		if out, err := s.exec("pod", "main", "cat", "/pod-data/shareddata.txt"); err != nil || out != "Hello from the sub-container\n" {
			return fmt.Errorf("it holds %q: %w", out, err)
		}
		return nil
	})
	s.mustExec("pod", "sub", "rm", "/pod-data/shareddata.txt")
	if out := s.mustExec("pod", "main", "ls", "/pod-data"); out != "" {
		t.Errorf("a removed file is still shared: %s", out)
	}
}

// A memory volume is as large as its limit, the pod's memory limit or the node,
// whichever is least.
func TestStorageEmptyDirMemorySize(t *testing.T) {
	for name, tc := range map[string]struct {
		volume, pod, want string
	}{
		"own-limit":   {"10Mi", "64Mi", "10240"},
		"pods-memory": {"1Gi", "64Mi", "65536"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := shellPod("pod", "df -k /test-volume | awk 'NR==2 {print $2}'")
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(tc.pod)}
			src := emptyDir(corev1.StorageMediumMemory)
			src.EmptyDir.SizeLimit = ptr.To(resource.MustParse(tc.volume))
			if got := strings.TrimSpace(s.output(mounted(p, "/test-volume", src))); got != tc.want {
				t.Errorf("the volume has %s KiB, want %s", got, tc.want)
			}
		})
	}
}

// Conformance: [sig-storage] EmptyDir wrapper volumes should not conflict
func TestStorageWrapperVolumes(t *testing.T) {
	s := parallel(t)
	s.setData(configMap, "data", map[string]string{"data-1": "value-1"})
	s.setData(secret, "data", map[string]string{"data-1": "secret-1"})
	p := mounted(probePod("pod", "look", "/etc/configmap-volume/data-1", "/etc/secret-volume/data-1"), "/etc/secret-volume", dataOf(secret, "data", nil, false))
	same(t, s.looks(mounted(p, "/etc/configmap-volume", dataOf(configMap, "data", nil, false))),
		seen{Path: "/etc/configmap-volume/data-1", Perm: "-rw-r--r--", Content: "value-1"},
		seen{Path: "/etc/secret-volume/data-1", FS: "tmpfs", Perm: "-rw-r--r--", Content: "secret-1"})
}

// Conformance: [sig-storage] EmptyDir wrapper volumes should not cause race condition when used for configmaps [Serial]
func TestStorageManyConfigMaps(t *testing.T) {
	s := parallel(t)
	nodes, err := s.client.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	s.must(err)
	template := probePod("racey", "serve")
	template.Spec.RestartPolicy = corev1.RestartPolicyAlways
	template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{nodes.Items[0].Labels[corev1.LabelHostname]}},
		}}},
	}}}
	for i := range 50 {
		name := fmt.Sprintf("racey-%d", i)
		s.setData(configMap, name, map[string]string{"data-1": "value-1"})
		mounted(template, fmt.Sprintf("/etc/config-%d", i), dataOf(configMap, name, nil, false, corev1.KeyToPath{Key: "data-1", Path: "data-1"}))
	}
	_, err = s.client.CoreV1().ReplicationControllers(s.name).Create(s.ctx, &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: "racey"},
		Spec: corev1.ReplicationControllerSpec{Replicas: ptr.To[int32](5), Selector: template.Labels, Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: template.Labels}, Spec: template.Spec,
		}},
	}, metav1.CreateOptions{})
	s.must(err)
	s.eventually(90*time.Second, "five pods of fifty volumes", func() error {
		rc, err := s.client.CoreV1().ReplicationControllers(s.name).Get(s.ctx, "racey", metav1.GetOptions{})
		if err == nil && rc.Status.ReadyReplicas != 5 {
			err = fmt.Errorf("%d are ready", rc.Status.ReadyReplicas)
		}
		return err
	})
	events, err := s.client.CoreV1().Events(s.name).List(s.ctx, metav1.ListOptions{FieldSelector: "reason=FailedMount"})
	s.must(err)
	for _, e := range events.Items {
		t.Errorf("%s: %s", e.InvolvedObject.Name, e.Message)
	}
}
