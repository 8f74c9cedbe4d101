package handlers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"skiff/apiserver/request"
	"skiff/apiserver/store"
	"skiff/client/past"
)

// ServeHistory answers a request for the kept past.
func (a *API) ServeHistory(w http.ResponseWriter, r *http.Request) {
	answer, err := a.history(r)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	b, err := json.Marshal(answer)
	if err != nil {
		a.WriteError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client is gone when this fails
}

func (a *API) history(r *http.Request) (*past.History, error) {
	q := r.URL.Query()
	gvr := schema.GroupVersionResource{Group: q.Get("group"), Version: q.Get("version"), Resource: q.Get("resource")}
	t, ok := a.Lookup(gvr)
	if !ok || t.Store == nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the server keeps no resource %s: give group, version and resource as `kubectl api-resources` shows them", gvr))
	}
	t.Namespace, t.Name = q.Get("namespace"), q.Get("name")
	if err := a.mayRead(r, t); err != nil {
		return nil, err
	}
	kept, err := t.Store.Past(r.Context())
	if err != nil {
		return nil, err
	}
	out := &past.History{}
	var changes []store.PastChange
	switch {
	case q.Has("at"):
		if out.Revision, err = revisionOf(r, kept, q); err == nil {
			changes, out.Lost, err = kept.State(r.Context(), t.Namespace, t.Name, out.Revision)
		}
	case request.IsTrue(q, "deleted"):
		changes, err = kept.Deleted(r.Context(), t.Namespace)
	case t.Name == "":
		err = apierrors.NewBadRequest("name is required, or at, or deleted=true")
	default:
		changes, err = kept.Changes(r.Context(), t.Namespace, t.Name)
	}
	if err != nil {
		return nil, err
	}
	out.Items = make([]past.Object, 0, len(changes))
	for _, c := range changes {
		o, err := t.historic(c)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, o)
	}
	return out, nil
}

// revisionOf reads the parameter at: a revision or a time.
func revisionOf(r *http.Request, kept *store.Past, q url.Values) (int64, error) {
	text := q.Get("at")
	if rev, err := strconv.ParseInt(text, 10, 64); err == nil && rev > 0 {
		return rev, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("at: %q: want a revision, or a time such as 2026-01-02T15:04:05Z", text))
	}
	return kept.RevisionAt(r.Context(), at)
}

// mayRead asks whether the user may see the resource's past: what is in it may
// have been taken out of reach since.
func (a *API) mayRead(r *http.Request, t *Target) error {
	if a.cfg.Authorizer == nil {
		return nil
	}
	decision, reason, err := a.cfg.Authorizer.Authorize(r.Context(), authorizer.AttributesRecord{
		User: request.UserFrom(r.Context()), Verb: "get", Namespace: t.Namespace, Name: t.Name, APIGroup: t.Resource.Group,
		APIVersion: t.Version.Name, Resource: t.Resource.Plural, Subresource: "history", ResourceRequest: true, Path: r.URL.Path,
	})
	if decision == authorizer.DecisionAllow {
		return nil
	}
	if reason == "" {
		reason = fmt.Sprintf("the right to get %s/history is missing", t.Resource.Plural)
	}
	return apierrors.NewForbidden(t.GR(), t.Name, errors.Join(errors.New(reason), err))
}

func (t *Target) historic(c store.PastChange) (past.Object, error) {
	o := past.Object{Namespace: c.Namespace, Name: c.Name, Revision: c.Revision, Created: c.Created, Deleted: c.Deleted}
	if !c.At.IsZero() {
		o.Time = c.At.UTC().Format(time.RFC3339)
	}
	if c.Object == nil {
		return o, nil
	}
	obj, err := t.version(c.Object)
	if err != nil {
		return o, err
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return o, err
	}
	if !c.Deleted {
		var at time.Time
		for _, f := range m.GetManagedFields() {
			switch {
			case f.Time == nil || f.Time.Time.Before(at):
				continue
			case f.Time.After(at):
				at, o.By = f.Time.Time, nil
			}
			o.By = append(o.By, f.Manager)
		}
		slices.Sort(o.By)
		o.By = slices.Compact(o.By)
		if !at.IsZero() {
			o.Time = at.UTC().Format(time.RFC3339) // the object knows it to the second
		}
	}
	b, err := body(formatJSON, obj)
	if err != nil {
		return o, err
	}
	o.Object = typed(formatJSON, t.GVK(), b, hasType(obj))
	return o, nil
}
