package handlers

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/request"
	"skiff/apiserver/resources"
	"skiff/apiserver/store"
	"skiff/client/ownerwatch"
)

// ServeOwners answers the garbage collector: the owners of every object, and
// what becomes of them.
func (a *API) ServeOwners(w http.ResponseWriter, r *http.Request) {
	if err := a.mayFollowAll(r); err != nil {
		a.WriteError(w, r, err)
		return
	}
	flusher, ok := w.(http.Flusher)
	if !ok {
		a.WriteError(w, r, errors.New("the connection does not take a stream"))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
	out := bufio.NewWriterSize(w, 16<<10)
	f := &ownerFeed{
		api: a, union: store.NewUnion(), byResource: map[schema.GroupResource]*ownerMember{}, byStore: map[*store.Store]*ownerMember{},
		encoder: json.NewEncoder(out),
		flush: func() error {
			err := out.Flush()
			flusher.Flush()
			return err
		},
	}
	defer f.union.Close()
	if err := f.run(r.Context()); r.Context().Err() == nil {
		a.cfg.Log.Warn("watch of owners ended; its client asks again", "err", err)
	}
}

// mayFollowAll asks whether the user may list and watch whatever there is.
func (a *API) mayFollowAll(r *http.Request) error {
	if a.cfg.Authorizer == nil {
		return nil
	}
	for _, verb := range []string{"list", "watch"} {
		decision, reason, err := a.cfg.Authorizer.Authorize(r.Context(), authorizer.AttributesRecord{
			User: request.UserFrom(r.Context()), Verb: verb, APIGroup: "*", APIVersion: "*", Resource: "*", ResourceRequest: true, Path: r.URL.Path,
		})
		if decision != authorizer.DecisionAllow {
			return apierrors.NewForbidden(schema.GroupResource{Group: "*", Resource: "*"}, "",
				errors.Join(errors.New("the right to "+verb+" every resource is missing"), errors.New(reason), err))
		}
	}
	return nil
}

// ownerFeed is one answer.
type ownerFeed struct {
	api        *API
	union      *store.Union
	encoder    *json.Encoder
	flush      func() error
	last       int
	byResource map[schema.GroupResource]*ownerMember
	byStore    map[*store.Store]*ownerMember
}

// ownerMember is a resource that the client was told of.
type ownerMember struct {
	number   int
	store    *store.Store
	resource ownerwatch.Resource
}

// run tells the client what changes until that fails or ctx ends, and says why.
func (f *ownerFeed) run(ctx context.Context) error {
	for first := true; ; first = false {
		table, another := f.api.installed()
		told, err := f.join(ctx, table)
		if err != nil {
			return err
		}
		if told || first {
			if err := f.encoder.Encode(ownerwatch.Frame{Kind: ownerwatch.Synced}); err != nil {
				return err
			}
		}
		if err := f.flush(); err != nil {
			return err
		}
		changes, lost, err := f.union.Next(ctx, another)
		if err != nil {
			return err
		}
		for _, c := range changes {
			if err := f.change(c); err != nil {
				return err
			}
		}
		for _, s := range lost {
			if m := f.byStore[s]; m != nil {
				delete(f.byStore, s)
				m.store = nil
			}
		}
		f.union.Forget(lost)
	}
}

// join takes up what is new in the table, and gives up what is not there any more.
func (f *ownerFeed) join(ctx context.Context, table map[schema.GroupResource]*entry) (told bool, err error) {
	for gr, m := range f.byResource {
		if e := table[gr]; e != nil && e.store == m.store {
			continue
		} else if m.store != nil {
			f.union.Leave(m.store)
			delete(f.byStore, m.store)
			m.store = nil
		}
		if table[gr] == nil {
			delete(f.byResource, gr)
			if err := f.encoder.Encode(ownerwatch.Frame{Kind: ownerwatch.Gone, Number: m.number}); err != nil {
				return told, err
			}
		}
	}
	// A thousand definitions come one by one: what is known is not sorted again.
	var fresh []schema.GroupResource
	for gr, e := range table {
		if m := f.byResource[gr]; (m == nil || m.store == nil) && collected(e) {
			fresh = append(fresh, gr)
		}
	}
	slices.SortFunc(fresh, func(a, b schema.GroupResource) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Resource, b.Resource))
	})
	for _, gr := range fresh {
		if err := f.list(ctx, gr, table[gr]); err != nil {
			return false, err
		}
	}
	return len(fresh) > 0, nil
}

// collected tells whether objects of a resource can be owned, or own others.
// Events never are by reference.
func collected(e *entry) bool {
	if e.store == nil || e.res.Kind == "Event" {
		return false
	}
	for _, verb := range []string{"delete", "list", "watch"} {
		if !slices.Contains(e.res.Verbs, verb) {
			return false
		}
	}
	return true
}

func (f *ownerFeed) list(ctx context.Context, gr schema.GroupResource, e *entry) error {
	items, err := f.union.Join(ctx, e.store)
	if err != nil {
		return err
	}
	m := f.byResource[gr]
	if m == nil {
		f.last++
		m = &ownerMember{number: f.last}
		f.byResource[gr] = m
	}
	m.store = e.store
	m.resource = ownerwatch.Resource{Group: gr.Group, Version: shownVersion(e.res), Resource: gr.Resource, Kind: e.res.Kind, Namespaced: e.res.Namespaced}
	f.byStore[e.store] = m
	if err := f.encoder.Encode(ownerwatch.Frame{Kind: ownerwatch.List, Number: m.number, Resource: &m.resource}); err != nil {
		return err
	}
	for _, it := range items {
		if err := f.object(ownerwatch.Put, m, it); err != nil {
			return err
		}
	}
	return f.encoder.Encode(ownerwatch.Frame{Kind: ownerwatch.Listed, Number: m.number})
}

// shownVersion is a version in which the resource's objects can be asked for: the
// stored one where it answers requests.
func shownVersion(r *resources.Resource) string {
	name := r.Hub
	for _, v := range slices.Backward(r.Versions) {
		if v.Unserved || v.OffByDefault && v.Name != r.Hub {
			continue
		}
		if name = v.Name; name == r.Hub {
			break
		}
	}
	return name
}

func (f *ownerFeed) change(c store.Change) error {
	s := f.union.Of(c)
	m := f.byStore[s]
	if s == nil || m == nil {
		return nil
	}
	kind := ownerwatch.Put
	if c.Type == watch.Deleted {
		kind = ownerwatch.Delete
	}
	return f.object(kind, m, c.Item)
}

func (f *ownerFeed) object(kind ownerwatch.Kind, m *ownerMember, it *store.Item) error {
	obj, err := it.Object()
	if err != nil {
		f.api.cfg.Log.Error("owners of an object cannot be read", "key", it.Key, "err", err)
		return nil
	}
	o, err := meta.Accessor(obj)
	if err != nil {
		return err
	}
	return f.encoder.Encode(ownerwatch.Frame{Kind: kind, Number: m.number, Object: ownerwatch.Of(o)})
}
