package certificates

import (
	"context"
	"crypto/x509"
	"slices"

	beta "k8s.io/api/certificates/v1beta1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
)

// The longest key and proof that a kubelet sends, in bytes.
const (
	longestKey   = 10 << 10
	longestProof = 10 << 10
)

func validatePodRequest(_ context.Context, o, old *beta.PodCertificateRequest) field.ErrorList {
	s, at := &o.Spec, field.NewPath("spec")
	errs := podspec.ValidateSignerName(s.SignerName, at.Child("signerName"))
	for _, ref := range []struct {
		name, value, uid, uidName string
		rule                      func(string, bool) []string
	}{
		{"podName", s.PodName, string(s.PodUID), "podUID", apivalidation.NameIsDNSSubdomain},
		{"serviceAccountName", s.ServiceAccountName, string(s.ServiceAccountUID), "serviceAccountUID", apivalidation.ValidateServiceAccountName},
		{"nodeName", string(s.NodeName), string(s.NodeUID), "nodeUID", apivalidation.NameIsDNSSubdomain},
	} {
		for _, msg := range ref.rule(ref.value, false) {
			errs = append(errs, field.Invalid(at.Child(ref.name), ref.value, msg))
		}
		if ref.uid == "" {
			errs = append(errs, field.Required(at.Child(ref.uidName), "must not be empty"))
		} else if len(ref.uid) > 128 {
			errs = append(errs, field.TooLong(at.Child(ref.uidName), ref.uid, 128))
		}
	}
	if n := s.MaxExpirationSeconds; n == nil {
		errs = append(errs, field.Required(at.Child("maxExpirationSeconds"), "must be set"))
	} else {
		errs = append(errs, podspec.ValidateCertificateLifetime(*n, s.SignerName, at.Child("maxExpirationSeconds"))...)
	}
	errs = append(errs, proofOfKey(s, at)...)
	errs = append(errs, podspec.ValidateUserAnnotations(s.UnverifiedUserAnnotations, at.Child("unverifiedUserAnnotations"))...)
	if old != nil {
		errs = append(errs, apivalidation.ValidateImmutableField(*s, old.Spec, at)...)
	}
	return errs
}

// proofOfKey is a request for a certificate in the stub's form, or a bare key with its proof.
func proofOfKey(s *beta.PodCertificateRequestSpec, at *field.Path) field.ErrorList {
	if len(s.StubPKCS10Request) > 0 {
		at := at.Child("stubPKCS10Request")
		if len(s.StubPKCS10Request) > longestKey {
			return field.ErrorList{field.TooLong(at, s.StubPKCS10Request, longestKey)}
		}
		req, err := x509.ParseCertificateRequest(s.StubPKCS10Request)
		if err != nil {
			return field.ErrorList{field.Invalid(at, field.OmitValueType{}, "must be a valid PKCS#10 CSR")}
		}
		if err := req.CheckSignature(); err != nil {
			return field.ErrorList{field.Invalid(at, field.OmitValueType{}, "signature could not be verified")}
		}
		return nil
	}
	var errs field.ErrorList
	if len(s.PKIXPublicKey) == 0 {
		return append(errs, field.Required(at.Child("stubPKCS10Request"), "must not be empty"))
	}
	if len(s.PKIXPublicKey) > longestKey {
		errs = append(errs, field.TooLong(at.Child("pkixPublicKey"), s.PKIXPublicKey, longestKey))
	} else if _, err := x509.ParsePKIXPublicKey(s.PKIXPublicKey); err != nil {
		errs = append(errs, field.Invalid(at.Child("pkixPublicKey"), field.OmitValueType{}, "must be a valid PKIX-serialized public key"))
	}
	if n := len(s.ProofOfPossession); n > longestProof {
		errs = append(errs, field.TooLong(at.Child("proofOfPossession"), s.ProofOfPossession, longestProof))
	} else if n == 0 {
		errs = append(errs, field.Required(at.Child("proofOfPossession"), "must not be empty"))
	}
	return errs
}

func validatePodRequestStatus(_ context.Context, o, old *beta.PodCertificateRequest) field.ErrorList {
	errs := resources.ValidConditions(o.Status.Conditions)
	kinds := []string{beta.PodCertificateRequestConditionTypeDenied, beta.PodCertificateRequestConditionTypeFailed, beta.PodCertificateRequestConditionTypeIssued}
	issued, others := false, false
	for i, c := range o.Status.Conditions {
		if !slices.Contains(kinds, c.Type) {
			errs = append(errs, field.NotSupported(conditionsPath.Index(i).Child("type"), c.Type, kinds))
		}
		if c.Status != metav1.ConditionTrue {
			errs = append(errs, field.NotSupported(conditionsPath.Index(i).Child("status"), c.Status, []metav1.ConditionStatus{metav1.ConditionTrue}))
		}
		issued = issued || c.Type == beta.PodCertificateRequestConditionTypeIssued
		others = others || c.Type != beta.PodCertificateRequestConditionTypeIssued
	}
	at := field.NewPath("status")
	chainPath := at.Child("certificateChain")
	if issued && others {
		errs = append(errs, field.Invalid(conditionsPath, o.Status.Conditions, `There may be at most one condition with type "Issued", "Denied", or "Failed"`))
	}
	if len(old.Status.Conditions) > 0 {
		return append(errs, apivalidation.ValidateImmutableField(o.Status, old.Status, at)...)
	}
	if !issued {
		for name, set := range map[string]bool{"certificateChain": o.Status.CertificateChain != "", "notBefore": o.Status.NotBefore != nil,
			"beginRefreshAt": o.Status.BeginRefreshAt != nil, "notAfter": o.Status.NotAfter != nil} {
			if set {
				errs = append(errs, field.Invalid(at.Child(name), field.OmitValueType{}, `must not be set unless there is an "Issued" condition`))
			}
		}
		return errs
	}
	errs = append(errs, chain([]byte(o.Status.CertificateChain), chainPath)...)
	for name, t := range map[string]*metav1.Time{"notBefore": o.Status.NotBefore, "beginRefreshAt": o.Status.BeginRefreshAt, "notAfter": o.Status.NotAfter} {
		if t == nil {
			errs = append(errs, field.Required(at.Child(name), "must be present and consistent with the issued certificate"))
		}
	}
	return errs
}
