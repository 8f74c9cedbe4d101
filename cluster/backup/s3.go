package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"
)

// bucket is a place in a store with the interface of Amazon's S3.
type bucket struct {
	// base is the URL of the bucket, and prefix what its names begin with.
	base   *url.URL
	prefix string
	signer signer
	client *http.Client
	// attempts and pause are for failures that can pass.
	attempts int
	pause    time.Duration
}

// maxObject is the largest file that one request may store.
const maxObject = 5 << 30

func newBucket(u *url.URL) (*bucket, error) {
	if u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("place %q: want s3://BUCKET/PREFIX, with the credentials in the environment or a file", u.Redacted())
	}
	b := &bucket{
		prefix: strings.Trim(u.Path, "/"), client: &http.Client{Timeout: time.Hour}, attempts: 4, pause: time.Second,
		signer: signer{region: "us-east-1", service: "s3"},
	}
	endpoint, credentials := "", ""
	for key, values := range u.Query() {
		value := values[0]
		switch key {
		case "endpoint":
			endpoint = value
		case "region":
			b.signer.region = value
		case "credentials":
			credentials = value
		default:
			return nil, fmt.Errorf("place s3://%s: unknown parameter %q: want endpoint, region or credentials", u.Host, key)
		}
	}
	if endpoint == "" {
		endpoint = "https://s3." + b.signer.region + ".amazonaws.com"
	}
	base, err := url.Parse(endpoint)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("place s3://%s: endpoint %q: want https://HOST", u.Host, endpoint)
	}
	base.Path = path.Join("/", base.Path, u.Host)
	b.base = base
	if err := b.signer.load(credentials); err != nil {
		return nil, fmt.Errorf("place s3://%s: %w", u.Host, err)
	}
	return b, nil
}

// key is a name's key in the bucket.
func (b *bucket) key(name string) string { return path.Join(b.prefix, name) }

func (b *bucket) Put(ctx context.Context, name, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	if size > maxObject {
		return fmt.Errorf("the archive has %d bytes, and one request stores %d at most: back up to a folder", size, int64(maxObject))
	}
	return b.do(ctx, request{method: http.MethodPut, key: b.key(name), digest: hex.EncodeToString(sum.Sum(nil)), size: size, body: func() io.Reader {
		return io.NewSectionReader(f, 0, size)
	}}, func(*http.Response) error { return nil })
}

func (b *bucket) Get(ctx context.Context, name, file string) error {
	return b.do(ctx, request{method: http.MethodGet, key: b.key(name)}, func(resp *http.Response) error {
		// A failed attempt leaves a part.
		if err := os.RemoveAll(file); err != nil {
			return err
		}
		return write(resp.Body, file)
	})
}

func (b *bucket) Delete(ctx context.Context, name string) error {
	return b.do(ctx, request{method: http.MethodDelete, key: b.key(name)}, func(*http.Response) error { return nil })
}

func (b *bucket) Names(ctx context.Context) ([]string, error) {
	prefix := b.prefix
	if prefix != "" {
		prefix += "/"
	}
	var names []string
	for token := ""; ; {
		q := url.Values{"list-type": {"2"}, "prefix": {prefix}, "delimiter": {"/"}}
		if token != "" {
			q.Set("continuation-token", token)
		}
		var list struct {
			Contents              []struct{ Key string }
			IsTruncated           bool
			NextContinuationToken string
		}
		err := b.do(ctx, request{method: http.MethodGet, query: q}, func(resp *http.Response) error {
			return xml.NewDecoder(resp.Body).Decode(&list)
		})
		if err != nil {
			return nil, err
		}
		for _, c := range list.Contents {
			names = append(names, strings.TrimPrefix(c.Key, prefix))
		}
		if !list.IsTruncated {
			return names, nil
		}
		token = list.NextContinuationToken
	}
}

type request struct {
	method, key string
	query       url.Values
	// digest is the SHA-256 of the body, in hexadecimal; empty without one.
	digest string
	size   int64
	body   func() io.Reader
}

// statusError is an answer that is no success.
type statusError struct {
	status        int
	code, message string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the bucket answers %d %s: %s", e.status, e.code, e.message)
}

// passes tells whether it may go better next time.
func passes(err error) bool {
	var e *statusError
	if !errors.As(err, &e) {
		return true
	}
	return e.status >= 500 || e.status == http.StatusTooManyRequests || e.status == http.StatusRequestTimeout
}

// do sends a request, again when what failed may pass.
func (b *bucket) do(ctx context.Context, r request, take func(*http.Response) error) error {
	for attempt := 1; ; attempt++ {
		err := b.once(ctx, r, take)
		if err == nil || ctx.Err() != nil || attempt == b.attempts || !passes(err) {
			return err
		}
		timer := time.NewTimer(b.pause << (attempt - 1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

func (b *bucket) once(ctx context.Context, r request, take func(*http.Response) error) error {
	u := *b.base
	u.Path = path.Join(u.Path, r.key)
	u.RawPath = escapePath(u.Path)
	u.RawQuery = escapeQuery(r.query)
	var body io.Reader
	if r.body != nil {
		body = r.body()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return err
	}
	req.ContentLength = r.size
	if r.digest == "" {
		r.digest = hex.EncodeToString(sha256.New().Sum(nil))
	}
	b.signer.sign(req, r.digest, time.Now())
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return take(resp)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	e := &statusError{status: resp.StatusCode}
	var told struct{ Code, Message string }
	if xml.NewDecoder(bytes.NewReader(text)).Decode(&told) == nil {
		e.code, e.message = told.Code, told.Message
	}
	if e.code == "" {
		e.message = http.StatusText(resp.StatusCode)
	}
	return e
}
