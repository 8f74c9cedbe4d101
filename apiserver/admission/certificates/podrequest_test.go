package certificates

import (
	"context"
	"testing"

	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/admission"
)

// Who may write the status of requests still answers only those of its own signer.
func TestPodRequestSigner(t *testing.T) {
	plugin := NewSigning(authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		if a.GetVerb() == "sign" && a.GetResource() == "signers" && (a.GetName() == "example.com/mine" || a.GetName() == "example.org/*") {
			return authorizer.DecisionAllow, "", nil
		}
		return authorizer.DecisionNoOpinion, "", nil
	}))
	for name, tc := range map[string]struct {
		signer, sub string
		change      bool
		want        string
	}{
		"its own":              {signer: "example.com/mine", sub: "status", change: true},
		"of its domain":        {signer: "example.org/any", sub: "status", change: true},
		"another's":            {signer: "example.com/other", sub: "status", change: true, want: `podcertificaterequests.certificates.k8s.io "r" is forbidden: spec.signerName: Forbidden: User "u" is not permitted to "sign" for signer "example.com/other"`},
		"another's, unchanged": {signer: "example.com/other", sub: "status"},
		"another's labels":     {signer: "example.com/other", change: true},
	} {
		t.Run(name, func(t *testing.T) {
			old := &certificatesv1beta1.PodCertificateRequest{Spec: certificatesv1beta1.PodCertificateRequestSpec{SignerName: tc.signer}}
			r := old.DeepCopy()
			if tc.change {
				r.Status.Conditions = []metav1.Condition{{Type: "Denied"}}
			}
			got := ""
			if err := plugin.Validate(t.Context(), &admission.Attributes{Operation: admission.Update, Subresource: tc.sub, Object: r, OldObject: old, Name: "r", Namespace: "ns",
				Resource: certificatesv1beta1.SchemeGroupVersion.WithResource("podcertificaterequests"), User: &user.DefaultInfo{Name: "u"}}); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
