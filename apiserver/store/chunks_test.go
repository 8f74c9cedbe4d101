package store

import (
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// A list in pages goes on after its revision has been compacted away, without
// being one state any more, although memory may have that state still.
//
// Conformance: [sig-api-machinery] Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent [Slow]
func TestContinueBeyondCompaction(t *testing.T) {
	s, k := newStore(t, nil)
	ctx := t.Context()
	const total, limit = 40, 4
	for i := range total {
		if _, err := s.Create(ctx, "ns", fmt.Sprintf("n%03d", i), object(fmt.Sprintf("n%03d", i), "")); err != nil {
			t.Fatal(err)
		}
	}
	first, err := s.List(ctx, ListOptions{Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Items) != limit || first.Remaining == nil || *first.Remaining != total-limit {
		t.Fatalf("the first page has %d objects and says %v remain", len(first.Items), first.Remaining)
	}
	// Another kind's writes, which change nothing here, move the store on.
	for range 3 {
		if _, err := k.Create(ctx, fmt.Sprintf("/registry/others/%p", new(int)), []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	}
	now, err := k.Revision(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Compact(ctx, now); err != nil {
		t.Fatal(err)
	}
	_, err = s.List(ctx, ListOptions{Limit: limit, Continue: first.Continue})
	var status apierrors.APIStatus
	if !apierrors.IsResourceExpired(err) || !errors.As(err, &status) || status.Status().ListMeta.Continue == "" {
		t.Fatalf("the second page: %v, want expired with a token to go on", err)
	}
	token, seen, revision := status.Status().ListMeta.Continue, limit, int64(0)
	for token != "" {
		page, err := s.List(ctx, ListOptions{Limit: limit, Continue: token})
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page.Items)
		if revision != 0 && page.Revision != revision {
			t.Errorf("a page is of revision %d, the one before of %d", page.Revision, revision)
		}
		revision = page.Revision
		if left := total - seen; left > 0 && (page.Remaining == nil || *page.Remaining != int64(left)) {
			t.Errorf("a page says that %v remain, want %d", page.Remaining, left)
		}
		token = page.Continue
	}
	if seen != total || revision <= first.Revision {
		t.Errorf("the pages have %d objects at revision %d, want %d after %d", seen, revision, total, first.Revision)
	}
}
