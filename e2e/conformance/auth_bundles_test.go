package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// bundle makes a trust bundle of a signer, or of none, and returns its PEM.
func (s *space) bundle(name, signer string, labels map[string]string) string {
	s.t.Helper()
	text := trustBundle()
	c := s.client.CertificatesV1().ClusterTrustBundles()
	if signer != "" {
		name = strings.ReplaceAll(signer, "/", ":") + ":" + name
	}
	_, err := c.Create(s.ctx, &certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: text},
	}, metav1.CreateOptions{})
	s.must(err)
	s.later("delete the bundle", func(ctx context.Context) error { return c.Delete(ctx, name, metav1.DeleteOptions{}) })
	return text
}

// trusting is a pod that writes the bundles that it mounts.
func trusting(sources ...corev1.ClusterTrustBundleProjection) *corev1.Pod {
	p := shellPod("pod", "cat /trust/*/* 2>/dev/null; echo; echo done")
	for i := range sources {
		sources[i].Path = "roots.pem"
		name := fmt.Sprint("trust-", i)
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &sources[i]}},
		}}})
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/trust/" + name})
	}
	return p
}

// certificatesIn are the sorted certificates in a text.
func certificatesIn(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, "-----BEGIN CERTIFICATE-----") {
		if body, _, ok := strings.Cut(part, "-----END CERTIFICATE-----"); ok {
			out = append(out, strings.Join(strings.Fields(body), ""))
		}
	}
	slices.Sort(out)
	return out
}

// trusts checks which bundles a pod saw.
func (s *space) trusts(p *corev1.Pod, want ...string) {
	s.t.Helper()
	got, wanted := certificatesIn(s.output(p)), certificatesIn(strings.Join(want, "\n"))
	if !slices.Equal(got, wanted) {
		s.t.Errorf("the pod saw %d certificates, want others, %d", len(got), len(wanted))
	}
}

// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be able to mount a single ClusterTrustBundle by name [MinimumKubeletVersion:1.37]
func TestAuthBundleByName(t *testing.T) {
	s := parallel(t)
	text := s.bundle(s.name, "", nil)
	s.trusts(trusting(corev1.ClusterTrustBundleProjection{Name: ptr.To(s.name)}), text)
}

// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be able to specify multiple CTB volumes [MinimumKubeletVersion:1.37]
func TestAuthBundlesTwice(t *testing.T) {
	s := parallel(t)
	one, two := s.bundle(s.name+"-one", "", nil), s.bundle("two", "example.com/"+s.name, map[string]string{"alive": "yes"})
	s.trusts(trusting(corev1.ClusterTrustBundleProjection{Name: ptr.To(s.name + "-one")}, corev1.ClusterTrustBundleProjection{
		SignerName: ptr.To("example.com/" + s.name), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"alive": "yes"}},
	}), one, two)
}

func TestAuthBundlesBySigner(t *testing.T) {
	for name, tc := range map[string]struct {
		selector *metav1.LabelSelector
		optional *bool
		want     []int
	}{
		// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be capable to mount multiple trust bundles by signer+labels can combine all signer CTBs with an empty label selector [MinimumKubeletVersion:1.37]
		"all": {selector: &metav1.LabelSelector{}, want: []int{0, 1, 2}},
		// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be capable to mount multiple trust bundles by signer+labels can combine multiple CTBs with signer name and label selector [MinimumKubeletVersion:1.37]
		"labels": {selector: &metav1.LabelSelector{MatchLabels: map[string]string{"alive": "yes"}}, want: []int{0, 2}},
		// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be capable to mount multiple trust bundles by signer+labels should start if only signer name and nil label selector + optional=true [MinimumKubeletVersion:1.37]
		"nil": {optional: ptr.To(true)},
		// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be capable to mount multiple trust bundles by signer+labels should start if only signer name and explicit label selector matches nothing + optional=true [MinimumKubeletVersion:1.37]
		"nothing": {selector: &metav1.LabelSelector{MatchLabels: map[string]string{"alive": "never"}}, optional: ptr.To(true)},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			signer := "example.com/" + s.name
			var all, want []string
			for i, alive := range []string{"yes", "no", "yes"} {
				all = append(all, s.bundle(fmt.Sprint("bundle-", i), signer, map[string]string{"alive": alive}))
			}
			s.bundle("other", signer+"-other", map[string]string{"alive": "yes"})
			for _, i := range tc.want {
				want = append(want, all[i])
			}
			s.trusts(trusting(corev1.ClusterTrustBundleProjection{SignerName: &signer, LabelSelector: tc.selector, Optional: tc.optional}), want...)
		})
	}
}

func TestAuthBundleMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		source corev1.ClusterTrustBundleProjection
		says   string
	}{
		// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should prevent a pod from starting if: sets optional=false and the configured CTB does not exist [MinimumKubeletVersion:1.37]
		"name": {corev1.ClusterTrustBundleProjection{Name: ptr.To("does-not-exist"), Optional: ptr.To(false)},
			`clustertrustbundle.certificates.k8s.io "does-not-exist" not found`},
		// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should prevent a pod from starting if: sets optional=false and no trust bundle matches query [MinimumKubeletVersion:1.37]
		"signer": {corev1.ClusterTrustBundleProjection{SignerName: ptr.To("example.com/nobody"), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"alive": "yes"}}, Optional: ptr.To(false)},
			"combination of signerName and labelSelector matched zero ClusterTrustBundles"},
	} {
		t.Run(name, func(t *testing.T) {
			s := parallel(t)
			s.pod(trusting(tc.source))
			s.failsToMount(tc.says)
			p := s.podIs("pod", "still waiting", func(p *corev1.Pod) bool { return len(p.Status.ContainerStatuses) == 1 })
			if w := p.Status.ContainerStatuses[0].State.Waiting; p.Status.Phase != corev1.PodPending || w == nil || w.Reason != "ContainerCreating" {
				t.Errorf("the pod is %s: %+v", p.Status.Phase, p.Status.ContainerStatuses)
			}
		})
	}
}

// Conformance: [sig-auth] [FeatureGate:ClusterTrustBundle] [FeatureGate:ClusterTrustBundleProjection] should be able to mount a big number (>100) of CTBs [MinimumKubeletVersion:1.37]
func TestAuthBundlesMany(t *testing.T) {
	s := parallel(t)
	signer := "example.com/" + s.name
	var all []string
	var sources []corev1.VolumeProjection
	for i := range 150 {
		all = append(all, s.bundle(fmt.Sprintf("bundle-%03d", i), signer, nil))
		sources = append(sources, corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{
			Name: ptr.To(fmt.Sprintf("example.com:%s:bundle-%03d", s.name, i)), Path: fmt.Sprintf("%03d.pem", i),
		}})
	}
	p := shellPod("pod", "cat /trust/*/*")
	p.Spec.Volumes = []corev1.Volume{{Name: "trust", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "trust", MountPath: "/trust/many"}}
	s.trusts(p, all...)
}
