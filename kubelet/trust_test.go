package kubelet

import (
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"
)

const oneCertificate = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"

func TestTrustBundleSelectors(t *testing.T) {
	k := &Kubelet{cfg: Config{Client: fake.NewClientset(&certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: "example.com:signer:one", Labels: map[string]string{"a": "b"}},
		Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: "example.com/signer", TrustBundle: oneCertificate},
	})}}
	for name, tc := range map[string]struct {
		selector *metav1.LabelSelector
		optional bool
		want     string
		fails    bool
	}{
		"none":              {fails: true},
		"none and optional": {optional: true},
		"empty":             {selector: &metav1.LabelSelector{}, want: oneCertificate},
		"matching":          {selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, want: oneCertificate},
		"other":             {selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "c"}}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := k.trustBundle(t.Context(), &v1.ClusterTrustBundleProjection{
				SignerName: ptr.To("example.com/signer"), LabelSelector: tc.selector, Optional: &tc.optional, Path: "p",
			})
			if (err != nil) != tc.fails || string(got) != tc.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
