package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// longestSigner is a domain, a slash, and a path, each of the longest.
const longestSigner = 253 + 1 + 63 + 1 + 253

// ValidateSignerName returns every error of the name of a signer of certificates.
func ValidateSignerName(name string, at *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	parts := strings.Split(name, "/")
	if len(parts) != 2 {
		return field.ErrorList{field.Invalid(at, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Subdomain(parts[0]) {
		errs = append(errs, field.Invalid(at, parts[0], fmt.Sprintf("validating label %q: %s", parts[0], msg)))
	}
	if !strings.Contains(parts[0], ".") {
		errs = append(errs, field.Invalid(at, parts[0], "should be a domain with at least two segments separated by dots"))
	}
	if parts[1] == "" {
		return append(errs, field.Invalid(at, name, "validating label \"\": must not be empty"))
	}
	for _, label := range strings.Split(parts[1], ".") {
		for _, msg := range validation.IsDNS1123Subdomain(label) {
			errs = append(errs, field.Invalid(at, parts[1], fmt.Sprintf("validating label %q: %s", label, msg)))
		}
	}
	if len(name) > longestSigner {
		errs = append(errs, field.TooLong(at, name, longestSigner))
	}
	return errs
}

func trustBundle(s *corev1.ClusterTrustBundleProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case s.Name != nil && s.SignerName != nil:
		errs = append(errs, field.Invalid(at, s, "only one of name and signerName may be used"))
	case s.Name != nil:
		if *s.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), "must be a valid object name"))
		} else {
			for _, msg := range validation.IsDNS1123Subdomain((*s.Name)[strings.LastIndexByte(*s.Name, ':')+1:]) {
				errs = append(errs, field.Invalid(at.Child("name"), *s.Name, "not a valid clustertrustbundlename: "+msg))
			}
		}
		if s.LabelSelector != nil {
			errs = append(errs, field.Invalid(at.Child("labelSelector"), s.LabelSelector, "labelSelector must be unset if name is specified"))
		}
	case s.SignerName != nil:
		if *s.SignerName == "" {
			errs = append(errs, field.Required(at.Child("signerName"), "must be a valid signer name"))
		} else {
			errs = append(errs, ValidateSignerName(*s.SignerName, at.Child("signerName"))...)
		}
	default:
		errs = append(errs, field.Required(at, "either name or signerName must be specified"))
	}
	errs = append(errs, unversioned.ValidateLabelSelector(s.LabelSelector, unversioned.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
	return append(errs, filePath(s.Path, at.Child("path"))...)
}

// CertificateKeyTypes are the keys that a kubelet makes for a pod's certificate.
func CertificateKeyTypes() []string {
	return []string{"ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"}
}

const (
	shortestCertificate = 3600
	longestCertificate  = 91 * 24 * 3600
	longestOwn          = 24 * 3600
)

// ValidateCertificateLifetime is how long a pod's certificate may be asked for.
func ValidateCertificateLifetime(seconds int32, signer string, at *field.Path) field.ErrorList {
	most := int32(longestCertificate)
	if domain, _, _ := strings.Cut(signer, "/"); domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") {
		most = longestOwn
	}
	switch {
	case seconds < shortestCertificate:
		return field.ErrorList{field.Invalid(at, seconds, fmt.Sprintf("if provided, maxExpirationSeconds must be >= %d", shortestCertificate))}
	case seconds > most:
		return field.ErrorList{field.Invalid(at, seconds, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", most))}
	}
	return nil
}

func podCertificate(s *corev1.PodCertificateProjection, at *field.Path) field.ErrorList {
	errs := ValidateSignerName(s.SignerName, at.Child("signerName"))
	errs = append(errs, supported(s.KeyType, at.Child("keyType"), CertificateKeyTypes()...)...)
	if n := s.MaxExpirationSeconds; n != nil {
		errs = append(errs, ValidateCertificateLifetime(*n, s.SignerName, at.Child("maxExpirationSeconds"))...)
	}
	if s.CredentialBundlePath == "" && s.KeyPath == "" && s.CertificateChainPath == "" {
		errs = append(errs, field.Required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	for _, p := range []struct{ name, path string }{{"credentialBundlePath", s.CredentialBundlePath}, {"keyPath", s.KeyPath}, {"certificateChainPath", s.CertificateChainPath}} {
		if p.path != "" {
			errs = append(errs, filePath(p.path, at.Child(p.name))...)
		}
	}
	return append(errs, ValidateUserAnnotations(s.UserAnnotations, at.Child("userAnnotations"))...)
}

// ValidateUserAnnotations are what a pod tells the signer of its certificate.
func ValidateUserAnnotations(list map[string]string, at *field.Path) field.ErrorList {
	const most = 64 << 10
	var errs field.ErrorList
	size := 0
	for key, value := range list {
		size += len(key) + len(value)
		errs = append(errs, validation.IsDomainPrefixedKey(at, key)...)
	}
	if size > most {
		errs = append(errs, field.TooLong(at, "", most))
	}
	return errs
}
