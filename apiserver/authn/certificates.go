package authn

import (
	"crypto/sha256"
	"crypto/x509"
	"net/http"
	"sync"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/utils/lru"
)

// knownCertificates bounds the clients that are remembered.
const knownCertificates = 4096

// certificates knows the users of client certificates. A client shows the same
// certificate with every request: checking its signature each time would be a fifth
// of all the server's work. What was found holds as long as every certificate of the
// chain does, and the authorities stay the same.
type certificates struct {
	roots Roots
	now   func() time.Time

	mu    sync.Mutex // guards what follows
	pool  *x509.CertPool
	known *lru.Cache
}

// verified is a client that a chain of certificates has led to.
type verified struct {
	resp         *authenticator.Response
	since, until time.Time
}

func newCertificates(roots Roots) *certificates {
	return &certificates{roots: roots, now: time.Now, known: lru.New(knownCertificates)}
}

// AuthenticateRequest implements authenticator.Request.
func (c *certificates) AuthenticateRequest(req *http.Request) (*authenticator.Response, bool, error) {
	if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	opts, ok := c.roots.VerifyOptions()
	if !ok {
		return nil, false, nil
	}
	key := sumOf(req.TLS.PeerCertificates...)
	if v, ok := c.lookup(opts.Roots, key); ok {
		return v.resp, true, nil
	}
	var found verified
	user := x509request.UserConversionFunc(func(chain []*x509.Certificate) (*authenticator.Response, bool, error) {
		resp, ok, err := x509request.CommonNameUserConversion.User(chain)
		if ok && err == nil {
			found = spanOf(chain)
			found.resp = resp
		}
		return resp, ok, err
	})
	resp, ok, err := x509request.New(opts, user).AuthenticateRequest(req)
	if ok && err == nil && found.resp != nil {
		c.remember(opts.Roots, key, found)
	}
	return resp, ok, err
}

func sumOf(certs ...*x509.Certificate) (key [sha256.Size]byte) {
	hash := sha256.New()
	for _, cert := range certs {
		_, _ = hash.Write(cert.Raw) // a hash does not fail
	}
	hash.Sum(key[:0])
	return key
}

// spanOf is when every certificate of a chain is valid.
func spanOf(chain []*x509.Certificate) verified {
	v := verified{since: chain[0].NotBefore, until: chain[0].NotAfter}
	for _, cert := range chain[1:] {
		if cert.NotBefore.After(v.since) {
			v.since = cert.NotBefore
		}
		if cert.NotAfter.Before(v.until) {
			v.until = cert.NotAfter
		}
	}
	return v
}

func (c *certificates) lookup(pool *x509.CertPool, key [sha256.Size]byte) (verified, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pool != pool {
		// The authorities were read anew.
		c.known.Clear()
		c.pool = pool
	}
	hit, ok := c.known.Get(key)
	if !ok {
		return verified{}, false
	}
	v := hit.(verified)
	if now := c.now(); now.Before(v.since) || now.After(v.until) {
		c.known.Remove(key)
		return verified{}, false
	}
	return v, true
}

// remember keeps what was found, unless the authorities changed meanwhile.
func (c *certificates) remember(pool *x509.CertPool, key [sha256.Size]byte, v verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pool == pool {
		c.known.Add(key, v)
	}
}
