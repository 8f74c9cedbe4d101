package certificates

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

func TestVerdictsOfRequests(t *testing.T) {
	request := func(kinds ...certificatesv1.RequestConditionType) *csr {
		o := &csr{}
		for _, k := range kinds {
			o.Status.Conditions = append(o.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: k, Status: corev1.ConditionTrue, Reason: "r"})
		}
		return o
	}
	const approved, denied, failed = certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed
	other := request(approved)
	other.Status.Conditions[0].Reason = "s"
	failedOtherwise := request(failed)
	failedOtherwise.Status.Conditions[0].Reason = "s"
	tests := map[string]struct {
		was, is          *csr
		status, approval string
	}{
		"nothing":             {request(), request(), "", ""},
		"approved":            {request(), request(approved), `status.conditions: Forbidden: updates may not add a condition of type "Approved"`, ""},
		"failed":              {request(approved), request(approved, failed), "", ""},
		"no longer approved":  {request(approved), request(failed), `status.conditions: Forbidden: updates may not remove a condition of type "Approved"`, `status.conditions: Forbidden: updates may not remove a condition of type "Approved"`},
		"for another reason":  {request(approved), other, "", ""},
		"failed otherwise":    {request(failed), failedOtherwise, "", ""},
		"no more failed":      {request(failed), request(), `status.conditions: Forbidden: updates may not remove a condition of type "Failed"`, `status.conditions: Forbidden: updates may not remove a condition of type "Failed"`},
		"denied as well":      {request(approved), request(approved, denied), "[" + both + `, status.conditions: Forbidden: updates may not add a condition of type "Denied"]`, both},
		"approved and denied": {request(approved, denied), request(approved, denied), "", ""},
		"twice":               {request(), request(failed, failed), `status.conditions[1].type: Duplicate value: "Failed"`, `status.conditions[1].type: Duplicate value: "Failed"`},
		"of no type":          {request(), request(""), "status.conditions[0].type: Required value", "status.conditions[0].type: Required value"},
		"of no type before":   {request(""), request(""), "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := [2]string{}
			keepVerdicts(tt.is, tt.was)
			if errs := validateStatusChange(t.Context(), tt.is, tt.was); len(errs) > 0 {
				got[0] = errs.ToAggregate().Error()
			}
			if errs := validateApproval(t.Context(), tt.is, tt.was); len(errs) > 0 {
				got[1] = errs.ToAggregate().Error()
			}
			if diff := cmp.Diff([2]string{tt.status, tt.approval}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

const both = "status.conditions: Invalid value: \"{conditions[{\\\"type\\\": \\\"Approved\\\"}], conditions[{\\\"type\\\": \\\"Denied\\\"}]}\": must specify at most one of: `conditions[{\"type\": \"Approved\"}]`, `conditions[{\"type\": \"Denied\"}]`"

func TestIssuedCertificates(t *testing.T) {
	const garbage = "-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n-----END CERTIFICATE-----\n"
	of := func(certificate string) *csr {
		return &csr{Status: certificatesv1.CertificateSigningRequestStatus{Certificate: []byte(certificate)}}
	}
	for name, tt := range map[string]struct{ was, is, want string }{
		"none":             {"", "", ""},
		"text":             {"", "x", `status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block`},
		"no certificate":   {"", garbage, `status.certificate: Invalid value: "<certificate data>": x509: malformed certificate`},
		"another":          {garbage, "x", "status.certificate: Forbidden: updates may not modify existing certificate content"},
		"stored as it was": {garbage, garbage, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if errs := validateStatusChange(t.Context(), of(tt.is), of(tt.was)); len(errs) > 0 {
				got = errs.ToAggregate().Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A status with as many verdicts as are stored keeps these.
func TestStatusKeepsVerdicts(t *testing.T) {
	condition := func(reason string) *csr {
		return &csr{Status: certificatesv1.CertificateSigningRequestStatus{Conditions: []certificatesv1.CertificateSigningRequestCondition{
			{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: reason}}}}
	}
	o := condition("new")
	if keepVerdicts(o, condition("old")); o.Status.Conditions[0].Reason != "old" {
		t.Errorf("%+v", o.Status.Conditions)
	}
}
