package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"

	"skiff/apiserver"
	"skiff/apiserver/authn"
	"skiff/cluster/pki"
)

// servingFlags are how kube-apiserver serves and whom its tokens are for.
type servingFlags struct {
	tlsMinVersion       string
	ciphers             []string
	sni                 []cliflag.NamedCertKey
	minRequest          int
	eventTTL            time.Duration
	audiences           []string
	maxToken            time.Duration
	extendTokens        bool
	jwks                string
	users, uids, groups []string
	extras              []string
}

func (o *servingFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.tlsMinVersion, "tls-min-version", "VersionTLS12", "the oldest TLS that is spoken: VersionTLS12 or VersionTLS13")
	f.StringSliceVar(&o.ciphers, "tls-cipher-suites", nil, "the suites of TLS 1.2, by Go's names; default Go's")
	f.Var(cliflag.NewNamedCertKeyArray(&o.sni), "tls-sni-cert-key", "a further serving certificate, for the names in it or those that follow: CERT,KEY[:NAME,NAME]")
	f.IntVar(&o.minRequest, "min-request-timeout", 1800, "the least seconds of a watch that asks for none")
	f.DurationVar(&o.eventTTL, "event-ttl", time.Hour, "how long Events are kept")
	f.StringSliceVar(&o.audiences, "api-audiences", nil, "whom tokens for this server are for; default its first issuer")
	f.DurationVar(&o.maxToken, "service-account-max-token-expiration", 0, "the longest life of a service account's token; 0 is any")
	f.BoolVar(&o.extendTokens, "service-account-extend-token-expiration", true, "let tokens of pods that do not read them anew live for a year")
	f.StringVar(&o.jwks, "service-account-jwks-uri", "", "where the issuer's keys are said to be; default this server")
	f.StringSliceVar(&o.users, "requestheader-username-headers", []string{"X-Remote-User"}, "the headers in which front proxies name the user")
	f.StringSliceVar(&o.uids, "requestheader-uid-headers", nil, "the headers in which they give the UID; default none")
	f.StringSliceVar(&o.groups, "requestheader-group-headers", []string{"X-Remote-Group"}, "the headers in which they list the groups")
	f.StringSliceVar(&o.extras, "requestheader-extra-headers-prefix", []string{"X-Remote-Extra-"}, "how headers with more about the user begin")
}

func (o *servingFlags) apply(c *apiserver.Config) error {
	var err error
	if c.TLSMinVersion, err = cliflag.TLSVersion(o.tlsMinVersion); err != nil {
		return fmt.Errorf("--tls-min-version %q: %w: give VersionTLS12 or VersionTLS13", o.tlsMinVersion, err)
	}
	if c.TLSMinVersion < tls.VersionTLS12 {
		return fmt.Errorf("--tls-min-version %q: TLS below 1.2 is not spoken: give VersionTLS12 or VersionTLS13", o.tlsMinVersion)
	}
	if c.TLSCipherSuites, err = cliflag.TLSCipherSuites(o.ciphers); err != nil {
		return fmt.Errorf("--tls-cipher-suites: %w", err)
	}
	if o.minRequest < 0 {
		return fmt.Errorf("--min-request-timeout %d: give seconds, 0 or more", o.minRequest)
	}
	c.MinRequestTimeout, c.EventTTL = time.Duration(o.minRequest)*time.Second, o.eventTTL
	c.APIAudiences, c.ServiceAccountMaxTokenExpiration, c.ServiceAccountExtendTokens, c.ServiceAccountJWKSURI = o.audiences, o.maxToken, &o.extendTokens, o.jwks
	c.RequestHeader = authn.RequestHeaderConfig{UsernameHeaders: o.users, UIDHeaders: o.uids, GroupHeaders: o.groups, ExtraHeaderPrefixes: o.extras}
	return o.certificates(c)
}

// certificates serves those of --tls-sni-cert-key to clients that ask for their names.
func (o *servingFlags) certificates(c *apiserver.Config) error {
	type named struct {
		*pki.Reloading
		names []string
	}
	var further []named
	for _, k := range o.sni {
		r, err := pki.NewReloading(k.CertFile, k.KeyFile)
		if err != nil {
			return fmt.Errorf("--tls-sni-cert-key: %w", err)
		}
		further = append(further, named{r, k.Names})
	}
	if len(further) == 0 {
		return nil
	}
	first := c.Certificate
	c.Certificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		for _, n := range further {
			cert, err := n.GetCertificate(hello)
			if err != nil {
				return nil, err
			}
			if hello.ServerName != "" && serves(cert, n.names, hello.ServerName) {
				return cert, nil
			}
		}
		return first(hello)
	}
	return nil
}

// serves tells whether a certificate is for a name: one of the given names, of which
// the first label may be *, or of its own where none are given.
func serves(cert *tls.Certificate, names []string, name string) bool {
	if len(names) == 0 {
		return cert.Leaf != nil && cert.Leaf.VerifyHostname(name) == nil
	}
	return (&x509.Certificate{DNSNames: names}).VerifyHostname(name) == nil
}
