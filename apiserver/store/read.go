package store

import (
	"context"
	"errors"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skiff/kine"
)

// readRetries bounds how often a read begins anew when the cache was reset
// under it.
const readRetries = 3

// Get reads one object. resourceVersion "" is the newest state, "0" any state
// in memory, another one a state at least as new.
func (s *Store) Get(ctx context.Context, namespace, name, resourceVersion string) (*Item, error) {
	key := s.Key(namespace, name)
	for try := 0; ; try++ {
		it, err := s.get(ctx, key, resourceVersion)
		if errors.Is(err, errNotReady) && try < readRetries {
			continue
		}
		if err == nil && it == nil {
			err = kine.ErrKeyNotFound
		}
		if err != nil {
			return nil, statusOf(err, s.gr(), "get", name)
		}
		return it, nil
	}
}

func (s *Store) get(ctx context.Context, key, resourceVersion string) (*Item, error) {
	if err := s.cache.ensure(ctx); err != nil {
		return nil, err
	}
	if err := s.atLeast(ctx, resourceVersion); err != nil {
		return nil, err
	}
	return s.cache.get(key)
}

// atLeast waits until the cache is as new as a resourceVersion asks.
func (s *Store) atLeast(ctx context.Context, resourceVersion string) error {
	rev, err := parseRevision(resourceVersion)
	if err != nil {
		return err
	}
	switch {
	case resourceVersion == "":
		return s.feed.waitFresh(ctx)
	case rev == 0 || rev <= s.feed.Revision():
		return nil
	}
	if err := s.feed.wait(ctx, rev); err != nil {
		if errors.Is(err, errNotFresh) {
			return tooLarge(rev, s.feed.Revision())
		}
		return err
	}
	return nil
}

func parseRevision(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	rev, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, apierrors.NewBadRequest("invalid resource version: resourceVersion: Invalid value: " + strconv.Quote(text) + ": " + err.Error())
	}
	return int64(rev), nil
}

// ListOptions are the parts of a list request that the store answers.
type ListOptions struct {
	Predicate
	ResourceVersion string
	Match           metav1.ResourceVersionMatch
	Limit           int64
	Continue        string
}

// List is what a list found.
type List struct {
	Items []*Item
	// Revision is the list's resourceVersion.
	Revision int64
	// Continue is set when there is more.
	Continue string
	// Remaining is how many objects follow; nil when not known.
	Remaining *int64
}

// List reads objects in key order.
func (s *Store) List(ctx context.Context, o ListOptions) (*List, error) {
	for try := 0; ; try++ {
		l, err := s.list(ctx, o)
		if errors.Is(err, errNotReady) && try < readRetries {
			continue
		}
		if err != nil {
			return nil, statusOf(err, s.gr(), "list", "")
		}
		return l, nil
	}
}

func (s *Store) list(ctx context.Context, o ListOptions) (*List, error) {
	if err := s.cache.ensure(ctx); err != nil {
		return nil, err
	}
	from, exact := "", int64(0)
	switch {
	case o.Continue != "":
		var err error
		from, exact, err = decodeContinue(o.Continue, s.prefix)
		if err != nil {
			return nil, apierrors.NewBadRequest("invalid continue token: " + err.Error())
		}
		if o.ResourceVersion != "" && o.ResourceVersion != "0" {
			return nil, apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		if exact < 0 {
			// An inconsistent continuation: go on in the newest state.
			exact = 0
			if err := s.feed.waitFresh(ctx); err != nil {
				return nil, err
			}
		}
	case o.Match == metav1.ResourceVersionMatchExact:
		rev, err := parseRevision(o.ResourceVersion)
		if err != nil {
			return nil, err
		}
		exact = rev
	case o.Match == "" && o.Limit > 0 && o.ResourceVersion != "" && o.ResourceVersion != "0":
		// With a limit and no match an old version is meant exactly, as upstream's
		// first page from etcd was.
		rev, err := parseRevision(o.ResourceVersion)
		if err != nil {
			return nil, err
		}
		exact = rev
	default:
		if err := s.atLeast(ctx, o.ResourceVersion); err != nil {
			return nil, err
		}
	}
	if exact == 0 {
		t, rev, err := s.cache.view()
		if err != nil {
			return nil, err
		}
		l := s.page(t, rev, from, &o)
		if l.Continue != "" {
			s.cache.keepPage(rev, t)
		}
		return l, nil
	}
	if now := s.feed.Revision(); exact > now {
		if err := s.feed.wait(ctx, exact); err != nil {
			if errors.Is(err, errNotFresh) {
				return nil, tooLarge(exact, s.feed.Revision())
			}
			return nil, err
		}
	}
	if t := s.cache.viewAt(exact); t != nil {
		// What is compacted has ended for clients, though memory may have it:
		// their tokens expire as they expect.
		if _, err := s.kine.Get(ctx, s.prefix, kine.ReadOptions{Revision: exact}); err != nil {
			return nil, s.exactError(err, from, &o)
		}
		l := s.page(t, exact, from, &o)
		if l.Continue != "" {
			s.cache.keepPage(exact, t)
		}
		return l, nil
	}
	return s.past(ctx, exact, from, &o)
}

// past reads an exact old revision from the database.
func (s *Store) past(ctx context.Context, rev int64, from string, o *ListOptions) (*List, error) {
	traced, end := s.span(ctx, "List(recursive=true) etcd3", s.scope(o.Namespace))
	res, err := s.kine.List(traced, kine.PrefixRange(s.scope(o.Namespace)), kine.ReadOptions{Revision: rev})
	end(err)
	switch {
	case errors.Is(err, kine.ErrFutureRevision):
		return nil, tooLarge(rev, res.Revision)
	case err != nil:
		return nil, s.exactError(err, from, o)
	}
	t := newTree()
	for i := range res.KVs {
		it, err := s.itemOf(ctx, res.KVs[i].Key, &res.KVs[i])
		if err != nil {
			return nil, err
		}
		t.ReplaceOrInsert(it)
	}
	return s.page(t, rev, from, o), nil
}

// exactError is the error of reading an old revision.
func (s *Store) exactError(err error, from string, o *ListOptions) error {
	switch {
	case !errors.Is(err, kine.ErrCompacted):
		return err
	case o.Continue != "":
		return s.expired(from)
	}
	return apierrors.NewResourceExpired(expiredList)
}

// expired is the 410 of a continue token, with a token to go on inconsistently.
func (s *Store) expired(from string) error {
	err := apierrors.NewResourceExpired(expiredContinue)
	err.ErrStatus.ListMeta.Continue = encodeContinueAt(from, s.prefix, -1)
	return err
}

// page takes the matching objects from from on, at most Limit.
func (s *Store) page(t *tree, rev int64, from string, o *ListOptions) *List {
	l := &List{Revision: rev}
	r := kine.PrefixRange(s.scope(o.Namespace))
	if from > r.Start {
		r.Start = from
	}
	if name, ok := o.exactName(); ok && (o.Namespace != "" || !s.res.Namespaced) {
		key := s.Key(o.Namespace, name)
		if it, found := t.Get(&Item{Key: key}); found && key >= r.Start && s.matches(&o.Predicate, it) {
			l.Items = []*Item{it}
		}
		return l
	}
	if o.Empty() && o.Limit <= 0 && o.Namespace == "" {
		l.Items = make([]*Item, 0, t.Len())
	}
	remaining := int64(0)
	t.AscendRange(&Item{Key: r.Start}, &Item{Key: r.End}, func(it *Item) bool {
		if o.Limit > 0 && int64(len(l.Items)) >= o.Limit {
			// One more that matches shows that there is a next page. Without
			// selectors all that follow count.
			if l.Continue == "" && s.matches(&o.Predicate, it) {
				l.Continue = encodeContinue(l.Items[len(l.Items)-1].Key, s.prefix, rev)
			}
			remaining++
			return o.Empty() || l.Continue == ""
		}
		if s.matches(&o.Predicate, it) {
			l.Items = append(l.Items, it)
		}
		return true
	})
	if l.Continue != "" && o.Empty() {
		l.Remaining = &remaining
	}
	return l
}
