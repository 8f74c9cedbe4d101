// Package certificates declares the kinds of certificates.k8s.io.
package certificates

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/request"
	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

// Resources are the kinds of the group.
func Resources() []resources.Resource {
	return []resources.Resource{requests(), bundles(), podCertificateRequests()}
}

type csr = certificatesv1.CertificateSigningRequest

func requests() resources.Resource {
	r := resources.Kind(certificatesv1.GroupName, "CertificateSigningRequest", "certificatesigningrequests", false, "csr")
	r.Versions = []resources.Version{resources.HubVersion[csr]("v1", resources.Empty[certificatesv1.CertificateSigningRequestList], nil)}
	r.Columns = table.Columns(table.Name(), table.Age(), table.Text("SignerName", "Who is to sign."), table.Text("Requestor", "Who asks."),
		table.Text("RequestedDuration", "How long the certificate is to live."), table.Text("Condition", "What became of the request."))
	main, status := resources.SpecStatus(resources.TypedStrategy[csr, *csr]{
		AllowUnconditionalUpdate: true,
		PrepareForCreate: func(ctx context.Context, o *csr) {
			if u := request.UserFrom(ctx); u != nil {
				o.Spec.Username, o.Spec.UID, o.Spec.Groups = u.GetName(), u.GetUID(), u.GetGroups()
				o.Spec.Extra = map[string]certificatesv1.ExtraValue{}
				for k, v := range u.GetExtra() {
					o.Spec.Extra[k] = v
				}
			}
		},
		PrepareForUpdate: func(_ context.Context, o, old *csr) { o.Spec = old.Spec },
		Validate:         validateRequest,
	}, func(o *csr) *certificatesv1.CertificateSigningRequestSpec { return &o.Spec },
		func(o *csr) *certificatesv1.CertificateSigningRequestStatus { return &o.Status })
	// The status endpoint sets the certificate, the approval endpoint the verdict.
	keep := status.PrepareForUpdate
	status.PrepareForUpdate = func(ctx context.Context, o, old *csr) {
		keep(ctx, o, old)
		keepVerdicts(o, old)
		stamp(o, old)
	}
	status.ResetFields = []string{"spec", "status.conditions"}
	status.ValidateUpdate = validateStatusChange
	approval := resources.TypedStrategy[csr, *csr]{
		ResetFields: []string{"spec", "status.certificate"}, ValidateUpdate: validateApproval,
		PrepareForUpdate: func(_ context.Context, o, old *csr) {
			conditions := o.Status.Conditions
			o.Spec, o.Status = old.Spec, old.Status
			o.Status.Conditions = conditions
			stamp(o, old)
		},
	}
	return resources.Declare(resources.Spec[csr, *csr]{
		Resource: r, Strategy: main,
		Views:            map[string]resources.TypedStrategy[csr, *csr]{"status": status, "approval": approval},
		SelectableFields: map[string]func(*csr) string{"spec.signerName": func(o *csr) string { return o.Spec.SignerName }},
		Row: func(o *csr) []any {
			duration := "<none>"
			if s := o.Spec.ExpirationSeconds; s != nil {
				duration = humanDuration(*s)
			}
			return []any{o.Name, table.Since(o.CreationTimestamp), o.Spec.SignerName, o.Spec.Username, duration, condition(o)}
		},
	})
}

func verdict(t certificatesv1.RequestConditionType) bool {
	return t == certificatesv1.CertificateApproved || t == certificatesv1.CertificateDenied
}

// stamp sets the times of conditions that are new or have changed.
func stamp(o, old *csr) {
	now := metav1.Now()
	for i := range o.Status.Conditions {
		c := &o.Status.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = now
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = now
		for _, was := range old.Status.Conditions {
			if was.Type == c.Type && was.Status == c.Status && !was.LastTransitionTime.IsZero() {
				c.LastTransitionTime = was.LastTransitionTime
				break
			}
		}
	}
}

func humanDuration(seconds int32) string {
	return duration.HumanDuration(time.Duration(seconds) * time.Second)
}

func condition(o *csr) string {
	var approved, denied, failed bool
	for _, c := range o.Status.Conditions {
		approved = approved || c.Type == certificatesv1.CertificateApproved
		denied = denied || c.Type == certificatesv1.CertificateDenied
		failed = failed || c.Type == certificatesv1.CertificateFailed
	}
	out := ""
	switch {
	case denied:
		out = "Denied"
	case approved:
		out = "Approved"
	default:
		out = "Pending"
	}
	if failed {
		out += ",Failed"
	}
	if len(o.Status.Certificate) > 0 {
		out += ",Issued"
	}
	return out
}

func validateRequest(_ context.Context, o *csr) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("spec")
	block, _ := pem.Decode(o.Spec.Request)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		errs = append(errs, field.Invalid(at.Child("request"), o.Spec.Request, "PEM block type must be CERTIFICATE REQUEST"))
	} else if req, err := x509.ParseCertificateRequest(block.Bytes); err != nil {
		errs = append(errs, field.Invalid(at.Child("request"), o.Spec.Request, err.Error()))
	} else if err := req.CheckSignature(); err != nil {
		errs = append(errs, field.Invalid(at.Child("request"), o.Spec.Request, err.Error()))
	}
	if len(o.Spec.Usages) == 0 {
		errs = append(errs, field.Required(at.Child("usages"), ""))
	}
	seen := map[certificatesv1.KeyUsage]bool{}
	for i, u := range o.Spec.Usages {
		if !slices.Contains(keyUsages(), u) {
			errs = append(errs, field.NotSupported(at.Child("usages").Index(i), u, keyUsages()))
		}
		if seen[u] {
			errs = append(errs, field.Duplicate(at.Child("usages").Index(i), u))
		}
		seen[u] = true
	}
	errs = append(errs, podspec.ValidateSignerName(o.Spec.SignerName, at.Child("signerName"))...)
	if o.Spec.SignerName == "kubernetes.io/legacy-unknown" {
		errs = append(errs, field.Invalid(at.Child("signerName"), o.Spec.SignerName, "the legacy signerName is not allowed via this API version"))
	}
	if s := o.Spec.ExpirationSeconds; s != nil && *s < 600 {
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *s, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	return errs
}
