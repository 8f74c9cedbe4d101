package certificates

import (
	"context"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/admission"
)

// Attest lets only those who may attest for a signer write its trust bundles.
type Attest struct{ auth authorizer.Authorizer }

// NewAttest makes the plugin.
func NewAttest(auth authorizer.Authorizer) *Attest { return &Attest{auth: auth} }

// Name is upstream's.
func (*Attest) Name() string { return AttestName }

// Handles writes.
func (*Attest) Handles(op admission.Operation) bool {
	return op == admission.Create || op == admission.Update
}

// Validate checks bundles that are of a signer.
func (p *Attest) Validate(ctx context.Context, a *admission.Attributes) error {
	b, ok := a.Object.(*certificatesv1.ClusterTrustBundle)
	if !ok || b.Spec.SignerName == "" {
		return nil
	}
	if old, ok := a.OldObject.(*certificatesv1.ClusterTrustBundle); ok && a.Operation == admission.Update && old.Spec.TrustBundle == b.Spec.TrustBundle && old.Spec.SignerName == b.Spec.SignerName {
		return nil
	}
	if !may(ctx, p.auth, a, "attest", b.Spec.SignerName) {
		return admission.Forbidden(a, fmt.Errorf("user not permitted to attest for signerName %q", b.Spec.SignerName))
	}
	return nil
}
