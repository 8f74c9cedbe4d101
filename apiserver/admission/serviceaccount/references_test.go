package serviceaccount

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"skiff/apiserver/admission"
)

// An account that lists the Secrets of its pods is held to the list in containers
// of each kind, also those that are added to a pod that runs (CVE-2023-2728), and
// for all keys of a Secret at once as for one (CVE-2024-3177).
//
// Covers: api.admission-default
func TestMountableSecrets(t *testing.T) {
	sa := &v1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Name: "default", Namespace: "ns", Annotations: map[string]string{enforceAnnotation: "true"}},
		Secrets:    []v1.ObjectReference{{Name: "listed"}},
	}
	all := func(name string) []v1.EnvFromSource {
		return []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: name}}}}
	}
	one := func(name string) []v1.EnvVar {
		return []v1.EnvVar{{Name: "E", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: name}, Key: "k"}}}}
	}
	for name, tc := range map[string]struct {
		spec v1.PodSpec
		sub  string
		want string
	}{
		"listed":            {spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", EnvFrom: all("listed"), Env: one("listed")}}}},
		"key":               {spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", Env: one("other")}}}, want: `container c with envVar E referencing secret.secretName="other" is not allowed`},
		"set":               {spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", EnvFrom: all("other")}}}, want: `container c with envFrom referencing secret.secretName="other" is not allowed`},
		"init container":    {spec: v1.PodSpec{InitContainers: []v1.Container{{Name: "i", EnvFrom: all("other")}}}, want: `init container i with envFrom`},
		"volume":            {spec: v1.PodSpec{Volumes: []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "other"}}}}}, want: `volume with secret.secretName="other" is not allowed`},
		"pull secret":       {spec: v1.PodSpec{ImagePullSecrets: []v1.LocalObjectReference{{Name: "other"}}}, want: `imagePullSecret with name "other" is not allowed`},
		"added, listed":     {sub: "ephemeralcontainers", spec: v1.PodSpec{EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "e", EnvFrom: all("listed")}}}}},
		"added, set":        {sub: "ephemeralcontainers", spec: v1.PodSpec{EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "e", EnvFrom: all("other")}}}}, want: `ephemeral container e with envFrom`},
		"added, key":        {sub: "ephemeralcontainers", spec: v1.PodSpec{EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "e", Env: one("other")}}}}, want: `ephemeral container e with envVar E`},
		"what was there":    {sub: "ephemeralcontainers", spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", EnvFrom: all("other")}}}},
		"status of the pod": {sub: "status", spec: v1.PodSpec{Containers: []v1.Container{{Name: "c", EnvFrom: all("other")}}}},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset(sa)
			p := New(client, informers.NewSharedInformerFactory(client, 0).Core().V1().ServiceAccounts().Lister())
			tc.spec.ServiceAccountName, tc.spec.AutomountServiceAccountToken = "default", ptr.To(false)
			a := &admission.Attributes{Operation: admission.Create, Namespace: "ns", Name: "p", Subresource: tc.sub,
				Resource: v1.SchemeGroupVersion.WithResource("pods"), Object: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns"}, Spec: tc.spec}}
			if tc.sub != "" {
				a.Operation, a.OldObject = admission.Update, &v1.Pod{}
			}
			if !p.Handles(a.Operation) {
				t.Fatalf("%s is not seen", a.Operation)
			}
			err := p.Validate(t.Context(), a)
			if got := errText(err); (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A mirror pod has no identity of the cluster's, and no Secret by whatever way
// (CVE-2025-4563's neighbours).
func TestMirrorPods(t *testing.T) {
	for name, spec := range map[string]v1.PodSpec{
		"account":      {ServiceAccountName: "a"},
		"CSI":          {Volumes: []v1.Volume{{VolumeSource: v1.VolumeSource{CSI: &v1.CSIVolumeSource{NodePublishSecretRef: &v1.LocalObjectReference{Name: "s"}}}}}},
		"pull secrets": {ImagePullSecrets: []v1.LocalObjectReference{{Name: "s"}}},
		"token": {Volumes: []v1.Volume{{VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{
			Sources: []v1.VolumeProjection{{ServiceAccountToken: &v1.ServiceAccountTokenProjection{}}}}}}}},
	} {
		if err := admitMirror(t, spec); err == nil || !strings.HasPrefix(err.Error(), `pods "p" is forbidden: a mirror pod may not`) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := admitMirror(t, v1.PodSpec{}); err != nil {
		t.Errorf("a plain one is refused: %v", err)
	}
}

// admitMirror sends a mirror pod through the plugin, as a node would.
func admitMirror(t *testing.T, spec v1.PodSpec) error {
	t.Helper()
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", Annotations: map[string]string{v1.MirrorPodAnnotationKey: "x"}}, Spec: spec}
	a := &admission.Attributes{Operation: admission.Create, Kind: v1.SchemeGroupVersion.WithKind("Pod"), Resource: v1.SchemeGroupVersion.WithResource("pods"),
		Namespace: "ns", Name: "p", Object: pod}
	return (&Plugin{}).Admit(t.Context(), a)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
