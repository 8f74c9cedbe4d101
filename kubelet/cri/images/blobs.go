package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"skiff/kubelet/cri/shimapi"
)

const (
	// tempPrefix begins the name of what is not whole yet.
	tempPrefix = "tmp-"
	// tries bounds the tries of one download that make no progress.
	tries = 5
)

func (s *Store) blobPath(digest string) string {
	return filepath.Join(s.cfg.Root, "blobs/sha256", strings.TrimPrefix(digest, "sha256:"))
}

func (s *Store) hasBlob(digest string) bool {
	_, err := os.Stat(s.blobPath(digest))
	return err == nil
}

// putBlob stores a small blob whose digest the caller has computed.
func (s *Store) putBlob(digest string, data []byte) error {
	if s.hasBlob(digest) {
		return nil
	}
	return shimapi.WriteFile(s.blobPath(digest), data, 0o600)
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// source reads blobs of one repository of one registry.
type source struct {
	client *http.Client
	base   string // URL of the repository's blobs
	stall  time.Duration
}

// fetch downloads a blob into the store. What came of an earlier try is kept
// and continued. progress counts the bytes that arrive.
func (s *Store) fetch(ctx context.Context, src *source, digest string, size int64, progress func(int64)) error {
	if s.hasBlob(digest) {
		return nil
	}
	part := filepath.Join(s.cfg.Root, "ingest", strings.TrimPrefix(digest, "sha256:"))
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	hash := sha256.New()
	have, err := io.Copy(hash, f)
	if err != nil {
		return err
	}
	if have > size {
		if have, err = 0, restart(f, hash.Reset); err != nil {
			return err
		}
	}
	var last error
	most := have // bytes that any try has come to
	for failed := 0; have < size && failed < tries; failed++ {
		if failed > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(time.Duration(failed) * s.cfg.RetryPause):
			}
		}
		body, offset, err := src.open(ctx, digest, have)
		if err != nil {
			last = err
			if ctx.Err() != nil || !temporary(err) {
				return err
			}
			continue
		}
		if offset != have {
			// The server gives the whole blob only.
			if have, err = 0, restart(f, hash.Reset); err != nil {
				body.Close()
				return err
			}
		}
		disk := &diskWriter{f: f}
		n, err := io.Copy(io.MultiWriter(disk, hash), io.LimitReader(&counted{r: body, count: progress}, size-have+1))
		body.Close()
		if disk.err != nil {
			// A full disk: what takes room there is not kept for a later try.
			return errors.Join(&diskError{disk.err}, os.Remove(part))
		}
		have += n
		if have > size {
			os.Remove(part)
			return fmt.Errorf("blob %s: %w: longer than the %d bytes that the manifest says", digest, ErrInvalid, size)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// What begins anew and comes no further is no progress: the blob may be
		// shorter than it is said to be, and would be fetched for ever.
		if have > most {
			most, failed = have, 0
		}
		if last = err; err == nil && have < size {
			last = fmt.Errorf("%w: it ends after %d of the %d bytes that the manifest says", ErrInvalid, have, size)
		}
	}
	if have < size {
		return fmt.Errorf("blob %s: %w", digest, last)
	}
	if got := "sha256:" + hex.EncodeToString(hash.Sum(nil)); got != digest {
		os.Remove(part)
		return fmt.Errorf("blob %s: %w: its content has the digest %s", digest, ErrInvalid, got)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(part, s.blobPath(digest))
}

// diskWriter remembers that the file, and not the network, has failed.
type diskWriter struct {
	f   *os.File
	err error
}

func (w *diskWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.err = err
	return n, err
}

// diskError is a failure of the store's disk, which no other registry helps.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

func restart(f *os.File, reset func()) error {
	reset()
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// httpError is an answer that is not a success.
type httpError struct {
	url    string
	status int
}

func (e *httpError) Error() string {
	return fmt.Sprintf("unexpected status from GET request to %s: %d %s", e.url, e.status, http.StatusText(e.status))
}

func (e *httpError) Unwrap() error {
	switch e.status {
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrUnauthorized
	}
	return nil
}

func temporary(err error) bool {
	var h *httpError
	if errors.As(err, &h) {
		return h.status == http.StatusTooManyRequests || h.status == http.StatusRequestTimeout || h.status >= 500
	}
	return true
}

// open asks for a blob from an offset on and tells where the answer begins.
func (src *source) open(ctx context.Context, digest string, offset int64) (io.ReadCloser, int64, error) {
	parent := ctx
	ctx, cancel := context.WithCancelCause(parent)
	url := src.base + digest
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		cancel(nil)
		return nil, 0, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := src.client.Do(req)
	if err != nil {
		cancel(nil)
		return nil, 0, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		offset = 0
	case http.StatusRequestedRangeNotSatisfiable:
		resp.Body.Close()
		cancel(nil)
		if offset == 0 {
			return nil, 0, &httpError{url: url, status: resp.StatusCode}
		}
		// It knows no ranges of this form, or has something else by now.
		return src.open(parent, digest, 0)
	case http.StatusPartialContent:
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)) {
			resp.Body.Close()
			cancel(nil)
			return nil, 0, fmt.Errorf("GET %s: answer has the range %q", url, resp.Header.Get("Content-Range"))
		}
	default:
		resp.Body.Close()
		cancel(nil)
		return nil, 0, &httpError{url: url, status: resp.StatusCode}
	}
	w := &watchdog{ctx: ctx, body: resp.Body, cancel: cancel, stall: src.stall}
	w.timer = time.AfterFunc(w.stall, func() { cancel(fmt.Errorf("GET %s: no data for %s", url, w.stall)) })
	return w, offset, nil
}

// watchdog ends a read that brings nothing for too long.
type watchdog struct {
	ctx    context.Context
	stall  time.Duration
	body   io.ReadCloser
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func (w *watchdog) Read(p []byte) (int, error) {
	n, err := w.body.Read(p)
	if n > 0 {
		w.timer.Reset(w.stall)
	}
	if err != nil && w.ctx.Err() != nil {
		err = context.Cause(w.ctx)
	}
	return n, err
}

func (w *watchdog) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.body.Close()
}

type counted struct {
	r     io.Reader
	count func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if n > 0 && c.count != nil {
		c.count(int64(n))
	}
	return n, err
}
