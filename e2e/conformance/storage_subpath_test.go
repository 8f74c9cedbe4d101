package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// atSubPath is a pod of the probe image with a part of a volume at a path, and
// all of it at /whole, as are its init container's.
func atSubPath(src corev1.VolumeSource, subPath, at string, args ...string) *corev1.Pod {
	p := probePod("pod", args...)
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: src}}
	c := &p.Spec.Containers[0]
	c.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/whole"}, {Name: "v", MountPath: at, SubPath: subPath}}
	initial := *c.DeepCopy()
	initial.Name, initial.Args = "initial", []string{"look", at}
	p.Spec.InitContainers = []corev1.Container{initial}
	p.Spec.SecurityContext = &corev1.PodSecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Level: "s0:c0,c1"}}
	return p
}

func TestStorageSubPathOfFiles(t *testing.T) {
	for name, tc := range map[string]struct {
		kind, at string
	}{
		// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod
		"configmap": {configMap, "/test-volume"},
		// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with configmap pod with mountPath of existing file
		"configmap-over-a-file": {configMap, "/etc/resolv.conf"},
		// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with secret pod
		"secret": {secret, "/test-volume"},
		// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with downward pod
		"downward": {"", "/test-volume"},
		// Conformance: [sig-storage] Subpath Atomic writer volumes should support subpaths with projected pod
		"projected":          {projectedConfigMap, "/test-volume"},
		"projected-secret":   {projectedSecret, "/test-volume"},
		"secret-over-a-host": {secret, "/etc/hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			src, subPath, content := downwardItems(false, nil, field("metadata.name")), "file", "pod"
			if tc.kind != "" {
				s.setData(tc.kind, "data", map[string]string{"configmap-key": "configmap-value"})
				src, subPath, content = dataOf(tc.kind, "data", nil, false), "configmap-key", "configmap-value"
			}
			s.ready(atSubPath(src, subPath, tc.at, "serve"))
			want := seen{Path: tc.at, FS: on(tc.kind), Perm: "-rw-r--r--", Content: content}
			same(t, parseSeen(t, s.logs("pod", "initial")), want)
			same(t, s.look("pod", "main", tc.at), want)
			if tc.kind == "" {
				return
			}
			// What is mounted is one file, which does not follow the volume.
			s.setData(tc.kind, "data", map[string]string{"configmap-key": "other"})
			s.lookUntil("pod", "main", "/whole/configmap-key", ptr.To("other"))
			same(t, s.look("pod", "main", tc.at), want)
		})
	}
}

func TestStorageSubPath(t *testing.T) {
	for name, tc := range map[string]struct {
		before  string // a script that runs in the volume before the pod does
		subPath string
		group   int64
		want    seen
		fails   bool
	}{
		"missing":                  {subPath: "a/b", want: seen{Perm: "-rwxrwxrwx"}},
		"missing-with-group":       {subPath: "a/b", group: 123, want: seen{Perm: "-rwxrwxrwx", SetGID: true, GID: 123}},
		"folder":                   {before: "mkdir a && chmod 750 a", subPath: "a", want: seen{Perm: "-rwxr-x---"}},
		"file":                     {before: "echo -n x > a && chmod 644 a", subPath: "a", want: seen{Perm: "-rw-r--r--", Content: "x"}},
		"link-inside":              {before: "mkdir a && echo -n y > a/f && chmod 600 a/f && ln -s a/f l", subPath: "l", want: seen{Perm: "-rw-------", Content: "y"}},
		"link-to-the-host":         {before: "ln -s /etc l", subPath: "l", fails: true},
		"link-to-a-hosts-file":     {before: "ln -s /etc/passwd l", subPath: "l", fails: true},
		"link-upwards":             {before: "ln -s ../../.. l", subPath: "l", fails: true},
		"missing-below-a-link":     {before: "ln -s /tmp l", subPath: "l/skiff-escaped", fails: true},
		"link-to-missing":          {before: "ln -s /no/such/folder l", subPath: "l", fails: true},
		"file-as-folder":           {before: "touch a", subPath: "a/b", fails: true},
		"link-through-proc":        {before: "ln -s /proc/self/root/etc l", subPath: "l", fails: true},
		"link-of-dots-that-return": {before: "mkdir -p a/b && echo -n z > f && chmod 644 f && ln -s ../../f a/b/l", subPath: "a/b/l", want: seen{Perm: "-rw-r--r--", Content: "z"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			p := atSubPath(emptyDir(""), tc.subPath, "/test-volume", "look", "/test-volume")
			p.Spec.SecurityContext.FSGroup = nil
			if tc.group != 0 {
				p.Spec.SecurityContext.FSGroup = &tc.group
			}
			script := corev1.Container{Name: "before", Image: "busybox", Command: []string{"/bin/sh", "-ec", "cd /whole; " + tc.before + "\nchmod 0777 /tmp"},
				VolumeMounts: p.Spec.Containers[0].VolumeMounts[:1]}
			p.Spec.InitContainers = []corev1.Container{script}
			if !tc.fails {
				tc.want.Path = "/test-volume"
				same(t, s.looks(p), tc.want)
				return
			}
			s.pod(p)
			s.event("pod", "Warning", "subPath")
			got := s.podIs("pod", "waiting", func(p *corev1.Pod) bool {
				st := p.Status.ContainerStatuses
				return len(st) == 1 && st[0].State.Waiting != nil && st[0].State.Waiting.Reason == "CreateContainerConfigError"
			})
			if m := got.Status.ContainerStatuses[0].State.Waiting.Message; !strings.Contains(m, `failed to prepare subPath for volumeMount "v" of container "main"`) {
				t.Errorf("the container waits because of %q", m)
			}
			if _, err := os.Lstat("/tmp/skiff-escaped"); err == nil {
				t.Error("a folder was made on the host")
			}
		})
	}
}

// event waits for an event of a pod whose message has a text.
func (s *space) event(pod, kind, text string) corev1.Event {
	s.t.Helper()
	var found corev1.Event
	s.eventually(time.Minute, "an event of "+pod+" with "+text, func() error {
		list, err := s.client.CoreV1().Events(s.name).List(s.ctx, metav1.ListOptions{FieldSelector: "type=" + kind + ",involvedObject.name=" + pod})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if strings.Contains(e.Message, text) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("there are %d others", len(list.Items))
	})
	return found
}

// A container that exchanges the folder for a link to the host while its
// neighbours are started never shows them the host (CVE-2017-1002101,
// CVE-2021-25741).
//
// Covers: node.subpath
func TestStorageSubPathRace(t *testing.T) {
	s := parallel(t)
	secretDir := filepath.Join(shared.Root, "secret-of-the-host")
	s.must(os.MkdirAll(secretDir, 0o755))
	s.must(os.WriteFile(filepath.Join(secretDir, "flag"), []byte("the host's"), 0o644))
	p := shellPod("pod", "cd /whole; mkdir real; ln -s "+secretDir+" link; while :; do mv real sub; mv sub real; mv link sub; mv sub link; done")
	p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: emptyDir("")}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/whole"}}
	p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	for i := range 4 {
		c := *p.Spec.Containers[0].DeepCopy()
		c.Name = fmt.Sprintf("victim-%d", i)
		c.Command[2] = "ls /sub > /whole/$(hostname)-" + c.Name + "; [ -e /sub/flag ] && echo stolen; exit 1"
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "v", MountPath: "/sub", SubPath: "sub"})
		c.RestartPolicyRules = nil
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	s.pod(p)
	s.podIs("pod", "with victims that started or were refused", func(p *corev1.Pod) bool {
		tried := 0
		for _, st := range p.Status.ContainerStatuses {
			if st.RestartCount >= 1 || st.LastTerminationState.Terminated != nil || st.State.Waiting != nil && st.State.Waiting.Reason == "CreateContainerConfigError" {
				tried++
			}
		}
		return tried >= 4
	})
	for i := range 4 {
		name := fmt.Sprintf("victim-%d", i)
		b, err := s.client.CoreV1().Pods(s.name).GetLogs("pod", &corev1.PodLogOptions{Container: name}).DoRaw(s.ctx)
		if err == nil && strings.Contains(string(b), "stolen") {
			t.Errorf("%s saw the host's folder", name)
		}
	}
}
