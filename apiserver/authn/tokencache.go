package authn

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	utilcache "k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// tokenCacheSize bounds the answers kept.
const tokenCacheSize = 4096

// cachedTokens remembers the answers of a remote authenticator. Keys are keyed
// hashes, so that a memory dump shows no token; errors are not remembered.
type cachedTokens struct {
	inner            authenticator.Token
	success, failure time.Duration
	key              []byte
	answers          *utilcache.LRUExpireCache
	flights          singleflight.Group
}

type cachedAnswer struct {
	resp *authenticator.Response
	ok   bool
}

func newCachedTokens(inner authenticator.Token, success, failure time.Duration) *cachedTokens {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return &cachedTokens{inner: inner, success: success, failure: failure, key: key, answers: utilcache.NewLRUExpireCache(tokenCacheSize)}
}

func (c *cachedTokens) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	audiences, _ := authenticator.AudiencesFrom(ctx)
	mac := hmac.New(sha256.New, c.key)
	mac.Write([]byte(token))
	mac.Write([]byte{0})
	mac.Write([]byte(strings.Join(audiences, "\x00")))
	key := string(mac.Sum(nil))
	if hit, ok := c.answers.Get(key); ok {
		a := hit.(cachedAnswer)
		return a.resp, a.ok, nil
	}
	// One question at a time for a token; it outlives the request that asked first.
	ch := c.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		resp, ok, err := c.inner.AuthenticateToken(ctx, token)
		if err != nil {
			return nil, err
		}
		a := cachedAnswer{resp, ok}
		if ok && c.success > 0 {
			c.answers.Add(key, a, c.success)
		} else if !ok && c.failure > 0 {
			c.answers.Add(key, a, c.failure)
		}
		return a, nil
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return nil, false, r.Err
		}
		a := r.Val.(cachedAnswer)
		return a.resp, a.ok, nil
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
}
