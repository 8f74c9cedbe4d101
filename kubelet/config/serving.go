package config

import (
	"crypto/tls"
	"fmt"

	cliflag "k8s.io/component-base/cli/flag"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// TLS is the lowest version that the kubelet's server speaks, and with what ciphers;
// none are Go's own choice.
func TLS(c *kubeletv1beta1.KubeletConfiguration) (version uint16, ciphers []uint16, err error) {
	if version, err = cliflag.TLSVersion(c.TLSMinVersion); err != nil {
		return 0, nil, fmt.Errorf("tlsMinVersion (--tls-min-version) %q: %w", c.TLSMinVersion, err)
	}
	if version < tls.VersionTLS12 {
		return 0, nil, fmt.Errorf("tlsMinVersion (--tls-min-version) %q: TLS below 1.2 is not spoken: give VersionTLS12 or VersionTLS13", c.TLSMinVersion)
	}
	if len(c.TLSCipherSuites) == 0 {
		return version, nil, nil
	}
	if ciphers, err = cliflag.TLSCipherSuites(c.TLSCipherSuites); err != nil {
		return 0, nil, fmt.Errorf("tlsCipherSuites (--tls-cipher-suites): %w", err)
	}
	return version, ciphers, nil
}

// validateServing checks what the server is told of TLS.
func validateServing(c *kubeletv1beta1.KubeletConfiguration, bad func(format string, args ...any)) {
	if _, _, err := TLS(c); err != nil {
		bad("%w", err)
	}
	if (c.TLSCertFile == "") != (c.TLSPrivateKeyFile == "") {
		bad("tlsCertFile (--tls-cert-file) %q and tlsPrivateKeyFile (--tls-private-key-file) %q: one without the other", c.TLSCertFile, c.TLSPrivateKeyFile)
	}
}
