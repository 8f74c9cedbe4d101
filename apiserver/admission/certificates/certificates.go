// Package certificates checks who may approve and sign certificate requests,
// and refuses those that would make a cluster administrator.
package certificates

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/admission"
)

// Names of the plugins.
const (
	ApprovalName           = "CertificateApproval"
	SigningName            = "CertificateSigning"
	SubjectRestrictionName = "CertificateSubjectRestriction"
	AttestName             = "ClusterTrustBundleAttest"
)

const resource = "certificatesigningrequests"

// may asks whether the user has the verb on the signer, by its name or its domain.
func may(ctx context.Context, auth authorizer.Authorizer, a *admission.Attributes, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		d, _, err := auth.Authorize(ctx, authorizer.AttributesRecord{User: a.User, Verb: verb, APIGroup: "certificates.k8s.io", APIVersion: "*",
			Resource: "signers", Name: name, ResourceRequest: true})
		if err == nil && d == authorizer.DecisionAllow {
			return true
		}
	}
	return false
}

// Approval lets only approvers of the signer approve.
type Approval struct{ auth authorizer.Authorizer }

// NewApproval makes the plugin.
func NewApproval(auth authorizer.Authorizer) *Approval { return &Approval{auth: auth} }

// Name is upstream's.
func (*Approval) Name() string { return ApprovalName }

// Handles updates.
func (*Approval) Handles(op admission.Operation) bool { return op == admission.Update }

// Validate checks the approval subresource.
func (p *Approval) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Resource.Resource != resource || a.Resource.Group != "certificates.k8s.io" || a.Subresource != "approval" {
		return nil
	}
	csr, ok := a.OldObject.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return admission.Forbidden(a, fmt.Errorf("unexpected type %T", a.OldObject))
	}
	if !may(ctx, p.auth, a, "approve", csr.Spec.SignerName) {
		return admission.Forbidden(a, fmt.Errorf("user not permitted to approve requests with signerName %q", csr.Spec.SignerName))
	}
	return nil
}

// Signing lets only the signer write certificates.
type Signing struct{ auth authorizer.Authorizer }

// NewSigning makes the plugin.
func NewSigning(auth authorizer.Authorizer) *Signing { return &Signing{auth: auth} }

// Name is upstream's.
func (*Signing) Name() string { return SigningName }

// Handles updates.
func (*Signing) Handles(op admission.Operation) bool { return op == admission.Update }

// Validate checks changes of the certificate or of its failure.
func (p *Signing) Validate(ctx context.Context, a *admission.Attributes) error {
	if a.Resource.Group != "certificates.k8s.io" || a.Subresource != "status" {
		return nil
	}
	if a.Resource.Resource == "podcertificaterequests" {
		return p.podRequest(ctx, a)
	}
	if a.Resource.Resource != resource {
		return nil
	}
	old, ok := a.OldObject.(*certificatesv1.CertificateSigningRequest)
	csr, ok2 := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || !ok2 {
		return admission.Forbidden(a, fmt.Errorf("unexpected type %T", a.Object))
	}
	if slices.Equal(old.Status.Certificate, csr.Status.Certificate) && equality.Semantic.DeepEqual(old.Status.Conditions, csr.Status.Conditions) {
		return nil
	}
	if !may(ctx, p.auth, a, "sign", old.Spec.SignerName) {
		return admission.Forbidden(a, fmt.Errorf("user not permitted to sign requests with signerName %q", old.Spec.SignerName))
	}
	return nil
}

// podRequest lets only the signer answer the request for a pod's certificate.
func (p *Signing) podRequest(ctx context.Context, a *admission.Attributes) error {
	old, ok := a.OldObject.(*certificatesv1beta1.PodCertificateRequest)
	r, ok2 := a.Object.(*certificatesv1beta1.PodCertificateRequest)
	if !ok || !ok2 {
		return admission.Forbidden(a, fmt.Errorf("unexpected type %T", a.Object))
	}
	if equality.Semantic.DeepEqual(old.Status, r.Status) || may(ctx, p.auth, a, "sign", old.Spec.SignerName) {
		return nil
	}
	return admission.Forbidden(a, fmt.Errorf("spec.signerName: Forbidden: User %q is not permitted to \"sign\" for signer %q", a.User.GetName(), old.Spec.SignerName))
}

// SubjectRestriction refuses client certificates of the group system:masters.
type SubjectRestriction struct{}

// NewSubjectRestriction makes the plugin.
func NewSubjectRestriction() SubjectRestriction { return SubjectRestriction{} }

// Name is upstream's.
func (SubjectRestriction) Name() string { return SubjectRestrictionName }

// Handles creations.
func (SubjectRestriction) Handles(op admission.Operation) bool { return op == admission.Create }

// Validate reads the request's subject.
func (SubjectRestriction) Validate(_ context.Context, a *admission.Attributes) error {
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok || a.Subresource != "" || csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	req, err := parse(csr.Spec.Request)
	if err != nil {
		return admission.Forbidden(a, fmt.Errorf("failed to parse CSR: %w", err))
	}
	if slices.Contains(req.Subject.Organization, "system:masters") {
		return admission.Forbidden(a, fmt.Errorf("use of %s signer with system:masters group is not allowed", csr.Spec.SignerName))
	}
	return nil
}

func parse(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}
