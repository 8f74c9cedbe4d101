package config

import (
	"strings"
	"testing"
)

func TestServing(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"a pair", "tlsCertFile: /a.crt\ntlsPrivateKeyFile: /a.key\ntlsMinVersion: VersionTLS13", ""},
		{"a certificate alone", "tlsCertFile: /a.crt", `tlsPrivateKeyFile (--tls-private-key-file) "": one without the other`},
		{"no version", "tlsMinVersion: TLS13", `tlsMinVersion (--tls-min-version) "TLS13"`},
		{"an old version", "tlsMinVersion: VersionTLS11", "TLS below 1.2 is not spoken"},
		{"ciphers", "tlsCipherSuites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]", ""},
		{"no cipher", "tlsCipherSuites: [ROT13]", "tlsCipherSuites (--tls-cipher-suites)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.in))
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}
