package certificates

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var conditionsPath = field.NewPath("status", "conditions")

// validateStatusChange: the certificate is set once, and a verdict stays.
func validateStatusChange(_ context.Context, o, old *csr) field.ErrorList {
	errs := conditions(o, old)
	at := field.NewPath("status", "certificate")
	changed := !bytes.Equal(o.Status.Certificate, old.Status.Certificate)
	if changed && len(chain(old.Status.Certificate, at)) == 0 {
		errs = append(errs, chain(o.Status.Certificate, at)...)
	}
	errs = append(errs, keptVerdicts(o, old, false)...)
	if changed && len(old.Status.Certificate) > 0 {
		errs = append(errs, field.Forbidden(at, "updates may not modify existing certificate content"))
	}
	return errs
}

func validateApproval(_ context.Context, o, old *csr) field.ErrorList {
	return append(conditions(o, old), keptVerdicts(o, old, true)...)
}

// chain are the rules of what was issued; nothing may have been.
func chain(certificate []byte, at *field.Path) field.ErrorList {
	if len(certificate) == 0 {
		return nil
	}
	found := false
	for rest := certificate; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return field.ErrorList{field.Invalid(at, "<certificate data>", "only CERTIFICATE PEM blocks are allowed, found \""+block.Type+"\"")}
		}
		if len(block.Headers) != 0 {
			return field.ErrorList{field.Invalid(at, "<certificate data>", "no PEM block headers are permitted")}
		}
		found = true
		if certs, err := x509.ParseCertificates(block.Bytes); err != nil {
			return field.ErrorList{field.Invalid(at, "<certificate data>", err.Error())}
		} else if len(certs) == 0 {
			return field.ErrorList{field.Invalid(at, "<certificate data>", "found CERTIFICATE PEM block containing 0 certificates")}
		}
	}
	if !found {
		return field.ErrorList{field.Invalid(at, "<certificate data>", "must contain at least one CERTIFICATE PEM block")}
	}
	return nil
}

// conditions forgives what the stored request has already.
func conditions(o, old *csr) field.ErrorList {
	var errs field.ErrorList
	seen, was := map[certificatesv1.RequestConditionType]bool{}, map[certificatesv1.RequestConditionType]bool{}
	twice := false
	for _, c := range old.Status.Conditions {
		twice = twice || was[c.Type]
		was[c.Type] = true
	}
	for i, c := range o.Status.Conditions {
		at := conditionsPath.Index(i)
		if c.Type == "" && !was[""] {
			errs = append(errs, field.Required(at.Child("type"), ""))
		}
		switch {
		case c.Status == "":
			errs = append(errs, field.Required(at.Child("status"), ""))
		case (verdict(c.Type) || c.Type == certificatesv1.CertificateFailed) && c.Status != corev1.ConditionTrue:
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, []corev1.ConditionStatus{corev1.ConditionTrue}))
		case c.Status != corev1.ConditionTrue && c.Status != corev1.ConditionFalse && c.Status != corev1.ConditionUnknown:
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}))
		}
		if seen[c.Type] && !twice {
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
		seen[c.Type] = true
	}
	const approved, denied = certificatesv1.CertificateApproved, certificatesv1.CertificateDenied
	if seen[approved] && seen[denied] && !(was[approved] && was[denied]) {
		errs = append(errs, field.Invalid(conditionsPath, `{conditions[{"type": "Approved"}], conditions[{"type": "Denied"}]}`,
			"must specify at most one of: `conditions[{\"type\": \"Approved\"}]`, `conditions[{\"type\": \"Denied\"}]`"))
	}
	return errs
}

// keptVerdicts: what was decided stays, and verdicts are given where approving tells.
func keptVerdicts(o, old *csr, approving bool) field.ErrorList {
	var errs field.ErrorList
	kinds := []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed}
	for _, kind := range kinds {
		if len(of(o, kind)) < len(of(old, kind)) {
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("updates may not remove a condition of type %q", kind)))
		}
	}
	for _, kind := range kinds[:2] {
		if !approving && len(of(o, kind)) > len(of(old, kind)) {
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("updates may not add a condition of type %q", kind)))
		}
	}
	return errs
}

// keepVerdicts puts the stored verdicts back where a status has as many: it may be
// of a client that knows them worse.
func keepVerdicts(o, old *csr) {
	for _, kind := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		was := of(old, kind)
		if len(was) != len(of(o, kind)) {
			continue
		}
		for i := range o.Status.Conditions {
			if o.Status.Conditions[i].Type == kind {
				o.Status.Conditions[i], was = was[0], was[1:]
			}
		}
	}
}

func of(o *csr, kind certificatesv1.RequestConditionType) []certificatesv1.CertificateSigningRequestCondition {
	var out []certificatesv1.CertificateSigningRequestCondition
	for _, c := range o.Status.Conditions {
		if c.Type == kind {
			out = append(out, c)
		}
	}
	return out
}
