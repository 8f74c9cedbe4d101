package certificates

import (
	"context"
	"encoding/pem"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var conditionsPath = field.NewPath("status", "conditions")

// validateStatusChange: the certificate is set once, and a verdict stays.
func validateStatusChange(_ context.Context, o, old *csr) field.ErrorList {
	errs := conditions(o)
	at := field.NewPath("status", "certificate")
	if len(old.Status.Certificate) > 0 && string(o.Status.Certificate) != string(old.Status.Certificate) {
		errs = append(errs, field.Forbidden(at, "updates may not change a certificate once it has been issued"))
	}
	if len(o.Status.Certificate) > 0 && string(o.Status.Certificate) != string(old.Status.Certificate) {
		errs = append(errs, chain(o.Status.Certificate, at)...)
	}
	return append(errs, keptVerdicts(o, old, false)...)
}

func validateApproval(_ context.Context, o, old *csr) field.ErrorList {
	return append(conditions(o), keptVerdicts(o, old, true)...)
}

func chain(certificate []byte, at *field.Path) field.ErrorList {
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
	}
	if !found {
		return field.ErrorList{field.Invalid(at, "<certificate data>", "must contain at least one CERTIFICATE PEM block")}
	}
	return nil
}

func conditions(o *csr) field.ErrorList {
	var errs field.ErrorList
	seen := map[certificatesv1.RequestConditionType]bool{}
	for i, c := range o.Status.Conditions {
		at := conditionsPath.Index(i)
		if c.Type == "" {
			errs = append(errs, field.Required(at.Child("type"), ""))
		} else if seen[c.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), c.Type))
		}
		seen[c.Type] = true
		switch {
		case c.Status == "":
			errs = append(errs, field.Required(at.Child("status"), ""))
		case (verdict(c.Type) || c.Type == certificatesv1.CertificateFailed) && c.Status != corev1.ConditionTrue:
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, []corev1.ConditionStatus{corev1.ConditionTrue}))
		case c.Status != corev1.ConditionTrue && c.Status != corev1.ConditionFalse && c.Status != corev1.ConditionUnknown:
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}))
		}
	}
	if seen[certificatesv1.CertificateApproved] && seen[certificatesv1.CertificateDenied] {
		errs = append(errs, field.Invalid(conditionsPath, `{conditions[{"type": "Approved"}], conditions[{"type": "Denied"}]}`,
			"must specify at most one of: `conditions[{\"type\": \"Approved\"}]`, `conditions[{\"type\": \"Denied\"}]`"))
	}
	return errs
}

// keptVerdicts: a verdict stays, and is given where approving tells.
func keptVerdicts(o, old *csr, approving bool) field.ErrorList {
	var errs field.ErrorList
	for _, kind := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		was, is := of(old, kind), of(o, kind)
		switch {
		case len(was) > 0 && len(is) == 0:
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("updates may not remove a condition of type %q", kind)))
		case len(was) == 0 && len(is) > 0 && !approving && verdict(kind):
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("updates may not add a condition of type %q", kind)))
		case len(was) > 0 && !approving && !equality.Semantic.DeepEqual(was, is):
			errs = append(errs, field.Forbidden(conditionsPath, fmt.Sprintf("updates may not modify a condition of type %q", kind)))
		}
	}
	return errs
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
