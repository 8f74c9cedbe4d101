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
	tests := map[string]struct {
		was, is          *csr
		status, approval string
	}{
		"nothing":             {request(), request(), "", ""},
		"approved":            {request(), request(approved), `status.conditions: Forbidden: updates may not add a condition of type "Approved"`, ""},
		"failed":              {request(approved), request(approved, failed), "", ""},
		"no longer approved":  {request(approved), request(failed), `status.conditions: Forbidden: updates may not remove a condition of type "Approved"`, `status.conditions: Forbidden: updates may not remove a condition of type "Approved"`},
		"for another reason":  {request(approved), other, `status.conditions: Forbidden: updates may not modify a condition of type "Approved"`, ""},
		"approved and denied": {request(approved, denied), request(approved, denied), both, both},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := [2]string{}
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
