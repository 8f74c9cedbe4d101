package images

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"sigs.k8s.io/yaml"
)

// Registries is the content of registries.yaml.
type Registries struct {
	// Mirrors by registry host; "*" is for every registry without its own.
	Mirrors map[string]Mirror `json:"mirrors"`
	// Configs by the host of an endpoint; "*" is for every host without its own.
	Configs map[string]RegistryConfig `json:"configs"`
}

// Mirror is where a registry's images are asked for, before the registry itself.
type Mirror struct {
	Endpoints []string `json:"endpoint"`
	// Rewrites change the repository for these endpoints: pattern to replacement.
	Rewrites map[string]string `json:"rewrite"`
}

// RegistryConfig is how an endpoint is talked to.
type RegistryConfig struct {
	Auth *RegistryAuth `json:"auth"`
	TLS  *RegistryTLS  `json:"tls"`
}

// RegistryAuth is a registry's credentials.
type RegistryAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identity_token"`
}

// RegistryTLS names the files for TLS.
type RegistryTLS struct {
	CAFile             string `json:"ca_file"`
	CertFile           string `json:"cert_file"`
	KeyFile            string `json:"key_file"`
	InsecureSkipVerify bool   `json:"insecure_skip_verify"`
}

// LoadRegistries reads registries.yaml; a missing file is an empty one.
func LoadRegistries(file string) (*Registries, error) {
	r := new(Registries)
	if file == "" {
		return r, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("registry configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, r); err != nil {
		return nil, fmt.Errorf("registry configuration %s: %w", file, err)
	}
	for host, m := range r.Mirrors {
		for _, e := range m.Endpoints {
			if _, err := parseEndpoint(e); err != nil {
				return nil, fmt.Errorf("registry configuration %s: mirrors[%q].endpoint: %w", file, host, err)
			}
		}
		for pattern := range m.Rewrites {
			if _, err := regexp.Compile(pattern); err != nil {
				return nil, fmt.Errorf("registry configuration %s: mirrors[%q].rewrite: %w", file, host, err)
			}
		}
	}
	return r, nil
}

// endpoint is one place to ask for an image.
type endpoint struct {
	scheme string // http or https
	host   string
	// prefix replaces "/v2" in request paths; empty for the usual.
	prefix string
	// repository to ask for there.
	repository string
	auth       *RegistryAuth
	tls        *RegistryTLS
	// mirror is false for the registry itself as it is asked without being listed.
	mirror bool
	// own says that the host is the registry's, listed or not.
	own bool
}

func parseEndpoint(text string) (*endpoint, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q: want http://HOST or https://HOST", text)
	}
	e := &endpoint{scheme: u.Scheme, host: u.Host}
	if p := strings.TrimSuffix(u.Path, "/"); p != "" && p != "/v2" {
		e.prefix = path.Clean("/" + p)
	}
	return e, nil
}

// endpoints lists where a repository of a registry may be, in the order to try.
func (r *Registries) endpoints(host, repo string) []*endpoint {
	m, ok := r.Mirrors[host]
	if !ok {
		m = r.Mirrors["*"]
	}
	var out []*endpoint
	for _, text := range m.Endpoints {
		e, err := parseEndpoint(text)
		if err != nil {
			continue // refused when the file was loaded
		}
		e.repository, e.mirror, e.own = rewrite(m.Rewrites, repo), true, e.host == host
		out = append(out, e)
	}
	server := host
	if host == dockerHub {
		server = "registry-1.docker.io"
	}
	own := &endpoint{scheme: "https", host: server, repository: repo, own: true}
	if isLoopback(host) {
		own.scheme = "http"
	}
	// An endpoint that is the registry itself says how to talk to it.
	if !slices.ContainsFunc(out, func(e *endpoint) bool { return e.host == host && e.repository == repo }) {
		out = append(out, own)
	}
	for _, e := range out {
		c, ok := r.Configs[e.host]
		if !ok && !e.mirror {
			c, ok = r.Configs[host]
		}
		if !ok {
			c = r.Configs["*"]
		}
		e.auth, e.tls = c.Auth, c.TLS
		if !e.mirror && c.TLS != nil {
			e.scheme = "https"
		}
	}
	return out
}

// rewrite applies the first pattern, in order of the patterns, that matches.
func rewrite(rewrites map[string]string, repo string) string {
	patterns := make([]string, 0, len(rewrites))
	for p := range rewrites {
		patterns = append(patterns, p)
	}
	slices.Sort(patterns)
	for _, p := range patterns {
		if re, err := regexp.Compile(p); err == nil && re.MatchString(repo) {
			return re.ReplaceAllString(repo, rewrites[p])
		}
	}
	return repo
}

func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// authenticator gives the credentials for this endpoint: its own, else those
// of the request when it is the registry that they are for.
func (e *endpoint) authenticator(request authn.Authenticator) authn.Authenticator {
	if a := e.auth; a != nil {
		return authn.FromConfig(authn.AuthConfig{Username: a.Username, Password: a.Password, Auth: a.Auth, IdentityToken: a.IdentityToken})
	}
	if request == nil || !e.own && e.scheme == "http" && !isLoopback(e.host) {
		// Credentials are not sent in the clear to a host they were not given for. To
		// the registry's own they are, where registries.yaml says that it has no TLS.
		return authn.Anonymous
	}
	return request
}

// transport makes the connection to this endpoint, which may be silent for stall.
func (e *endpoint) transport(stall time.Duration) (http.RoundTripper, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: stall,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
	}
	if c := e.tls; c != nil {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: c.InsecureSkipVerify, MinVersion: tls.VersionTLS12}
		if c.CAFile != "" {
			pem, err := os.ReadFile(c.CAFile)
			if err != nil {
				return nil, fmt.Errorf("registry %s: ca_file: %w", e.host, err)
			}
			pool, err := x509.SystemCertPool()
			if err != nil {
				pool = x509.NewCertPool()
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("registry %s: ca_file %s: no certificate in it", e.host, c.CAFile)
			}
			t.TLSClientConfig.RootCAs = pool
		}
		if c.CertFile != "" {
			pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("registry %s: cert_file: %w", e.host, err)
			}
			t.TLSClientConfig.Certificates = []tls.Certificate{pair}
		}
	}
	return &endpointTransport{endpoint: e, base: t}, nil
}

// endpointTransport sends the requests for an endpoint's host by the scheme and
// below the path that are configured, whatever the client guesses.
type endpointTransport struct {
	endpoint *endpoint
	base     *http.Transport
}

func (t *endpointTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == t.endpoint.host {
		u := *req.URL
		u.Scheme = t.endpoint.scheme
		if rest, ok := strings.CutPrefix(u.Path, "/v2/"); ok && t.endpoint.prefix != "" {
			u.Path, u.RawPath = t.endpoint.prefix+"/"+rest, ""
		}
		req = req.Clone(req.Context())
		req.URL = &u
	}
	return t.base.RoundTrip(req)
}
