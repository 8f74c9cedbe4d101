package backup

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// s3 is a store with the interface of S3 that verifies what is signed.
type s3 struct {
	secret string

	mu      sync.Mutex
	objects map[string][]byte
	// failures is how many requests are answered with 503 first.
	failures int
}

func (s *s3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = s.verify(r, body)
	}
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, "<Error><Code>SignatureDoesNotMatch</Code><Message>%v</Message></Error>", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures > 0 {
		s.failures--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/archive/")
	switch {
	case r.URL.Path == "/archive" && r.Method == http.MethodGet:
		s.list(w, r.URL.Query())
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchBucket</Code><Message>there is none</Message></Error>")
	case r.Method == http.MethodPut:
		s.objects[key] = body
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case s.objects[key] == nil:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchKey</Code><Message>there is none</Message></Error>")
	default:
		w.Write(s.objects[key])
	}
}

// list answers with two names at a time.
func (s *s3) list(w http.ResponseWriter, q url.Values) {
	var keys []string
	for key := range s.objects {
		if strings.HasPrefix(key, q.Get("prefix")) && key > q.Get("continuation-token") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	type content struct{ Key string }
	out := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Contents              []content
		IsTruncated           bool
		NextContinuationToken string
	}{}
	for _, key := range keys[:min(2, len(keys))] {
		out.Contents = append(out.Contents, content{key})
	}
	if len(keys) > 2 {
		out.IsTruncated, out.NextContinuationToken = true, keys[1]
	}
	if err := xml.NewEncoder(w).Encode(out); err != nil {
		panic(err)
	}
}

// verify computes the signature from what arrived.
func (s *s3) verify(r *http.Request, body []byte) error {
	auth := r.Header.Get("Authorization")
	var credential, signed, signature string
	for _, part := range strings.Split(strings.TrimPrefix(auth, "AWS4-HMAC-SHA256 "), ", ") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			signed = value
		case "Signature":
			signature = value
		}
	}
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[0] != "id" {
		return fmt.Errorf("credential %q", credential)
	}
	sum := sha256.Sum256(body)
	if got := r.Header.Get("X-Amz-Content-Sha256"); got != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("the body's digest is %s", got)
	}
	canonical := r.Method + "\n" + r.URL.EscapedPath() + "\n" + r.URL.RawQuery + "\n"
	for _, name := range strings.Split(signed, ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		canonical += name + ":" + value + "\n"
	}
	canonical += "\n" + signed + "\n" + hex.EncodeToString(sum[:])
	digest := sha256.Sum256([]byte(canonical))
	text := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + strings.Join(scope[1:], "/") + "\n" + hex.EncodeToString(digest[:])
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	key := mac(mac(mac(mac([]byte("AWS4"+s.secret), scope[1]), scope[2]), scope[3]), scope[4])
	if want := hex.EncodeToString(mac(key, text)); want != signature {
		return fmt.Errorf("signature %s, want %s", signature, want)
	}
	return nil
}

// places are a folder and a bucket, empty.
func places(t *testing.T) map[string]Place {
	t.Helper()
	server := &s3{secret: "secret", objects: map[string][]byte{"other/file": []byte("not ours")}, failures: 2}
	h := httptest.NewServer(server)
	t.Cleanup(h.Close)
	credentials := filepath.Join(t.TempDir(), "credentials")
	put(t, credentials, "[default]\naws_access_key_id = id\naws_secret_access_key = secret\naws_session_token = a/token+\n")
	b, err := Open("s3://archive/my cluster/a+b?endpoint=" + h.URL + "&region=eu-1&credentials=" + credentials)
	if err != nil {
		t.Fatal(err)
	}
	b.(*bucket).pause = time.Millisecond
	d, err := Open(filepath.Join(t.TempDir(), "backups") + "/")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Place{"bucket": b, "folder": d}
}

func TestPlaces(t *testing.T) {
	ctx := context.Background()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "archive")
			put(t, file, strings.Repeat("data", 1000))
			if names, err := place.Names(ctx); err != nil || len(names) != 0 {
				t.Fatalf("an empty place has %v, %v", names, err)
			}
			want := []string{"a=1&b.tar.gz", "b.tar.gz", "c.tar.gz", "d.tar.gz", "e.tar.gz"}
			for _, n := range want {
				if err := place.Put(ctx, n, file); err != nil {
					t.Fatal(err)
				}
			}
			if err := place.Delete(ctx, "c.tar.gz"); err != nil {
				t.Fatal(err)
			}
			want = slices.Delete(want, 2, 3)
			names, err := place.Names(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, names); d != "" {
				t.Errorf("names (-want +got):\n%s", d)
			}
			back := filepath.Join(dir, "back")
			if err := place.Get(ctx, want[0], back); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(back); err != nil || string(got) != strings.Repeat("data", 1000) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			if err := place.Get(ctx, "missing", filepath.Join(dir, "missing")); err == nil {
				t.Error("a name that is not there could be fetched")
			}
		})
	}
}

func TestBucketWithWrongSecret(t *testing.T) {
	h := httptest.NewServer(&s3{secret: "another"})
	t.Cleanup(h.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	b, err := Open("s3://archive?endpoint=" + h.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Names(context.Background())
	if err == nil || !strings.Contains(err.Error(), "403 SignatureDoesNotMatch") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want the refusal at once, without the secret", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	for _, c := range []struct{ text, want string }{
		{"", "is empty"},
		{"ftp://host/x", "want a folder or s3://"},
		{"s3://archive", "AWS_ACCESS_KEY_ID"},
		{"s3://archive?endpoint=host", "want https://HOST"},
		{"s3://archive?speed=fast", "unknown parameter"},
		{"s3://id:secret@archive", "want s3://BUCKET/PREFIX"},
		{"s3://archive?credentials=/missing", "no such file"},
	} {
		t.Run(c.text, func(t *testing.T) {
			if _, err := Open(c.text); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret@") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Covers: store.backup-schedule
func TestScheduleAndRetention(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	name := func(hours int) string { return Name("n1", at.Add(time.Duration(hours)*time.Hour)) }
	others := []string{"notes.txt", Name("n1-b", at), "skiff-n1-20260501T120000Z.tar.gz.new"}
	all := append([]string{name(0), name(6), name(12), name(18)}, others...)
	for _, c := range []struct {
		name  string
		names []string
		now   int
		due   bool
	}{
		{"nothing there", others, 0, true},
		{"the newest is young", all, 20, false},
		{"the newest is old enough", all, 24, true},
		{"the clock went back by years", all, -100_000, true},
		{"and one was made since", append([]string{name(-100_001)}, all...), -100_000, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := at.Add(time.Duration(c.now) * time.Hour)
			if got := !Due("n1", c.names, 6*time.Hour, now).After(now); got != c.due {
				t.Errorf("due %v, want %v", got, c.due)
			}
		})
	}
	if d := cmp.Diff([]string{name(6), name(0)}, Expired("n1", all, 2)); d != "" {
		t.Errorf("expired (-want +got):\n%s", d)
	}
	if got := Expired("n1", all, 4); got != nil {
		t.Errorf("expired %v, want none", got)
	}
	if err := (&Schedule{To: t.TempDir(), Every: "6 hours", Keep: 0}).Validate(); err == nil || !strings.Contains(err.Error(), "such as 6h") || !strings.Contains(err.Error(), "keep: 0") {
		t.Errorf("got %v", err)
	}
}
