package backup

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// signer signs requests as S3 wants them: Signature Version 4.
type signer struct {
	id, secret, token, region, service string
}

// load reads the credentials from a file in the form of ~/.aws/credentials, or
// from the environment.
func (s *signer) load(file string) error {
	if file == "" {
		s.id, s.secret, s.token = os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")
		if s.id == "" || s.secret == "" {
			return errors.New("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file with ?credentials=PATH")
		}
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "aws_access_key_id":
			s.id = value
		case "aws_secret_access_key":
			s.secret = value
		case "aws_session_token":
			s.token = value
		}
	}
	if s.id == "" || s.secret == "" {
		return fmt.Errorf("credentials: %s has no aws_access_key_id and aws_secret_access_key", file)
	}
	return nil
}

// sign adds the headers of a signature. digest is the body's SHA-256.
func (s *signer) sign(r *http.Request, digest string, now time.Time) {
	at := now.UTC().Format(stamp)
	r.Header.Set("X-Amz-Date", at)
	r.Header.Set("X-Amz-Content-Sha256", digest)
	if s.token != "" {
		r.Header.Set("X-Amz-Security-Token", s.token)
	}
	names := []string{"host"}
	for name := range r.Header {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	signed := strings.Join(names, ";")
	var headers strings.Builder
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.URL.Host
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(value))
	}
	canonical := strings.Join([]string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, headers.String(), signed, digest}, "\n")
	scope := strings.Join([]string{at[:8], s.region, s.service, "aws4_request"}, "/")
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", at, scope, hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + s.secret)
	for _, part := range []string{at[:8], s.region, s.service, "aws4_request", text} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", s.id, scope, signed, hex.EncodeToString(key)))
}

// escape leaves the unreserved characters of RFC 3986 as they are, and those in
// also.
func escape(text, also string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~"+also, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func escapePath(text string) string { return escape(text, "/") }

// escapeQuery is a query in the order and the form that are signed.
func escapeQuery(q url.Values) string {
	var parts []string
	for key, values := range q {
		for _, value := range values {
			parts = append(parts, escape(key, "")+"="+escape(value, ""))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}
