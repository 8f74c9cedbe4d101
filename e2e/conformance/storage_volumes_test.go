package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// seen is what the probe image's tools look and create tell of a path.
type seen struct {
	Path    string `json:"path"`
	FS      string `json:"fs"`
	Perm    string `json:"perm"`
	SetGID  bool   `json:"setgid"`
	UID     int64  `json:"uid"`
	GID     int64  `json:"gid"`
	Content string `json:"content"`
	Error   string `json:"error"`
}

func parseSeen(t *testing.T, output string) []seen {
	t.Helper()
	var out []seen
	for d := json.NewDecoder(strings.NewReader(output)); ; {
		var s seen
		err := d.Decode(&s)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%v in %q", err, output)
		}
		out = append(out, s)
	}
}

// looks runs a pod of the tools look or create and returns what they tell.
func (s *space) looks(p *corev1.Pod) []seen {
	s.t.Helper()
	return parseSeen(s.t, s.output(p))
}

// look asks a running pod.
func (s *space) look(pod, container string, paths ...string) []seen {
	s.t.Helper()
	return parseSeen(s.t, s.mustExec(pod, container, append([]string{"/probe", "look"}, paths...)...))
}

// lookUntil asks a running pod until it sees at a path what it should: content,
// or nothing where content is nil.
func (s *space) lookUntil(pod, container, path string, content *string) {
	s.t.Helper()
	s.eventually(time.Minute, path+" in "+pod, func() error {
		got := s.look(pod, container, path)[0]
		switch {
		case content == nil && got.Error == "", content != nil && got.Content != *content:
			return fmt.Errorf("it shows %+v", got)
		}
		return nil
	})
}

// mounted gives all containers of a pod a volume.
func mounted(p *corev1.Pod, at string, src corev1.VolumeSource) *corev1.Pod {
	name := fmt.Sprintf("volume-%d", len(p.Spec.Volumes))
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: src})
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: at})
	}
	return p
}

// as makes a pod run as a user, with its volumes owned by a group; 0 is for
// what the image says.
func as(p *corev1.Pod, user, group int64) *corev1.Pod {
	p.Spec.SecurityContext = &corev1.PodSecurityContext{}
	if user != 0 {
		p.Spec.SecurityContext.RunAsUser = &user
	}
	if group != 0 {
		p.Spec.SecurityContext.FSGroup = &group
	}
	return p
}

// same compares what was seen.
func same(t *testing.T, got []seen, want ...seen) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The kinds of volumes that show the data of an object.
const (
	configMap          = "configMap"
	secret             = "secret"
	projectedConfigMap = "projected configMap"
	projectedSecret    = "projected secret"
)

// dataOf is a volume of an object's data.
func dataOf(kind, name string, mode *int32, optional bool, items ...corev1.KeyToPath) corev1.VolumeSource {
	ref, opt := corev1.LocalObjectReference{Name: name}, ptr.To(optional)
	projected := func(p corev1.VolumeProjection) corev1.VolumeSource {
		return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{p}, DefaultMode: mode}}
	}
	switch kind {
	case configMap:
		return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref, Items: items, DefaultMode: mode, Optional: opt}}
	case secret:
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, Items: items, DefaultMode: mode, Optional: opt}}
	case projectedConfigMap:
		return projected(corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref, Items: items, Optional: opt}})
	}
	return projected(corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: ref, Items: items, Optional: opt}})
}

// setData makes the object behind such a volume, or changes it.
func (s *space) setData(kind, name string, data map[string]string) {
	s.t.Helper()
	meta := metav1.ObjectMeta{Name: name}
	var err error
	switch kind {
	case configMap, projectedConfigMap:
		o := &corev1.ConfigMap{ObjectMeta: meta, Data: data}
		c := s.client.CoreV1().ConfigMaps(s.name)
		if _, err = c.Get(s.ctx, name, metav1.GetOptions{}); err == nil {
			_, err = c.Update(s.ctx, o, metav1.UpdateOptions{})
		} else {
			_, err = c.Create(s.ctx, o, metav1.CreateOptions{})
		}
	default:
		o := &corev1.Secret{ObjectMeta: meta, StringData: data}
		c := s.client.CoreV1().Secrets(s.name)
		if _, err = c.Get(s.ctx, name, metav1.GetOptions{}); err == nil {
			_, err = c.Update(s.ctx, o, metav1.UpdateOptions{})
		} else {
			_, err = c.Create(s.ctx, o, metav1.CreateOptions{})
		}
	}
	s.must(err)
}

// deleteData removes the object behind such a volume.
func (s *space) deleteData(kind, name string) {
	s.t.Helper()
	if kind == configMap || kind == projectedConfigMap {
		s.must(s.client.CoreV1().ConfigMaps(s.name).Delete(s.ctx, name, metav1.DeleteOptions{}))
		return
	}
	s.must(s.client.CoreV1().Secrets(s.name).Delete(s.ctx, name, metav1.DeleteOptions{}))
}
