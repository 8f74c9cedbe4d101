package certificates

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skiff/apiserver/resources"
	"skiff/apiserver/resources/podspec"
	"skiff/apiserver/resources/table"
)

type bundle = certificatesv1.ClusterTrustBundle

// maxBundle bounds the text of a bundle, in bytes.
const maxBundle = 1 << 20

func bundles() resources.Resource {
	r := resources.Kind(certificatesv1.GroupName, "ClusterTrustBundle", "clustertrustbundles", false)
	r.Versions = []resources.Version{resources.HubVersion[bundle]("v1", resources.Empty[certificatesv1.ClusterTrustBundleList], nil), bundleBeta()}
	r.Columns = table.Columns(table.Name(), table.Text("SignerName", "Whose certificates these are."))
	return resources.Declare(resources.Spec[bundle, *bundle]{
		Resource: r,
		Strategy: resources.TypedStrategy[bundle, *bundle]{
			// The exact rule depends on the signer: see validateBundle.
			NameValidation: func(name string, prefix bool) []string {
				return apivalidation.NameIsDNSSubdomain(name[strings.LastIndexByte(name, ':')+1:], prefix)
			},
			Validate: func(_ context.Context, o *bundle) field.ErrorList { return validateBundle(o) },
			ValidateUpdate: func(_ context.Context, o, old *bundle) field.ErrorList {
				errs := validateBundle(o)
				return append(errs, apivalidation.ValidateImmutableField(o.Spec.SignerName, old.Spec.SignerName, field.NewPath("spec", "signerName"))...)
			},
		},
		Row:              func(o *bundle) []any { return []any{o.Name, o.Spec.SignerName} },
		SelectableFields: map[string]func(*bundle) string{"spec.signerName": func(o *bundle) string { return o.Spec.SignerName }},
	})
}

// validateBundle checks a bundle by the rules of KEP-3257: the bundle of a signer
// begins with the signer's name, and every entry is a certificate.
func validateBundle(o *bundle) field.ErrorList {
	var errs field.ErrorList
	name, spec := field.NewPath("metadata", "name"), field.NewPath("spec")
	if signer := o.Spec.SignerName; signer == "" {
		if strings.Contains(o.Name, ":") {
			errs = append(errs, field.Invalid(name, o.Name, `ClusterTrustBundle without signer name must not have ":" in its name`))
		}
	} else {
		errs = append(errs, podspec.ValidateSignerName(signer, spec.Child("signerName"))...)
		if prefix := strings.ReplaceAll(signer, "/", ":") + ":"; !strings.HasPrefix(o.Name, prefix) {
			errs = append(errs, field.Invalid(name, o.Name, fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, prefix)))
		}
	}
	at := spec.Child("trustBundle")
	if len(o.Spec.TrustBundle) > maxBundle {
		return append(errs, field.TooLong(at, "", maxBundle))
	}
	seen, n := map[string]int{}, 0
	for rest := []byte(o.Spec.TrustBundle); ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch _, err := x509.ParseCertificate(block.Bytes); {
		case block.Type != "CERTIFICATE":
			errs = append(errs, field.Invalid(at, "<value omitted>", fmt.Sprintf("entry %d has bad block type: %v", n, block.Type)))
			continue
		case len(block.Headers) != 0:
			errs = append(errs, field.Invalid(at, "<value omitted>", fmt.Sprintf("entry %d has PEM block headers: %v", n, block.Headers)))
			continue
		case err != nil:
			errs = append(errs, field.Invalid(at, "<value omitted>", fmt.Sprintf("entry %d does not parse as X.509: %v", n, err)))
			continue
		}
		if first, twice := seen[string(block.Bytes)]; twice {
			errs = append(errs, field.Invalid(at, "<value omitted>", fmt.Sprintf("duplicate trust anchor (indices %d and %d)", first, n)))
		}
		seen[string(block.Bytes)] = n
	}
	if n == 0 {
		errs = append(errs, field.Invalid(at, "<value omitted>", "at least one trust anchor must be provided"))
	}
	return errs
}
