package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Place is where archives are kept.
type Place interface {
	// Put stores a local file under a name; the name appears with the whole file
	// or not at all.
	Put(ctx context.Context, name, file string) error
	// Get fetches it to a local file.
	Get(ctx context.Context, name, file string) error
	// Names lists what is there, sorted, archives or not.
	Names(ctx context.Context) ([]string, error)
	Delete(ctx context.Context, name string) error
}

// Open is the place that a text names: a folder, or
//
//	s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION
//
// The credentials of a bucket are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
// AWS_SESSION_TOKEN, or the file that the parameter credentials names.
func Open(text string) (Place, error) {
	if !strings.Contains(text, "://") {
		if text == "" {
			return nil, errors.New("the place of the backups is empty: name a folder or s3://BUCKET/PREFIX")
		}
		return folder(text), nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("place of the backups: %w", err)
	}
	if u.Scheme != "s3" {
		return nil, fmt.Errorf("place %q: want a folder or s3://BUCKET/PREFIX", u.Redacted())
	}
	return newBucket(u)
}

// Archive is the text that names an archive of a place to Fetch, or its file.
func Archive(text, name string) string {
	if u, err := url.Parse(text); err == nil && u.Scheme != "" {
		return u.JoinPath(name).String()
	}
	return filepath.Join(text, name)
}

// Fetch brings one archive, named with its place, into a local folder.
func Fetch(ctx context.Context, text, dir string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("backup: %w", err)
	}
	name := path.Base(u.Path)
	u.Path = path.Dir(u.Path)
	place, err := Open(u.String())
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, name)
	return file, place.Get(ctx, name, file)
}

const stamp = "20060102T150405Z"

// Name is what the archive of a node at a time is called: names sort by time.
func Name(node string, at time.Time) string {
	return "skiff-" + node + "-" + at.UTC().Format(stamp) + ".tar.gz"
}

// Times are the archives of a node by name.
func Times(node string, names []string) map[string]time.Time {
	pattern := regexp.MustCompile(`^skiff-` + regexp.QuoteMeta(node) + `-(\d{8}T\d{6}Z)\.tar\.gz$`)
	out := map[string]time.Time{}
	for _, name := range names {
		m := pattern.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		if at, err := time.Parse(stamp, m[1]); err == nil {
			out[name] = at
		}
	}
	return out
}

// Expired are a node's archives beyond the newest keep. What is not called like
// one of its archives is never named.
func Expired(node string, names []string, keep int) []string {
	times := Times(node, names)
	var own []string
	for name := range times {
		own = append(own, name)
	}
	slices.SortFunc(own, func(a, b string) int { return times[b].Compare(times[a]) })
	if len(own) <= keep {
		return nil
	}
	return own[keep:]
}

// folder is a place on this machine.
type folder string

func (d folder) Put(_ context.Context, name, file string) (err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := filepath.Join(string(d), name+".new")
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, filepath.Join(string(d), name))
}

func (d folder) Get(_ context.Context, name, file string) error {
	in, err := os.Open(filepath.Join(string(d), name))
	if err != nil {
		return err
	}
	defer in.Close()
	return write(in, file)
}

func write(from io.Reader, file string) error {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}

func (d folder) Names(context.Context) ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d folder) Delete(_ context.Context, name string) error {
	return os.Remove(filepath.Join(string(d), name))
}
