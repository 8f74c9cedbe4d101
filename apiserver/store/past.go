package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skiff/kine"
	"skiff/kine/history"
)

// Past is what the database has kept of a resource's objects below the revision
// that clients can read: for the history commands alone.
type Past struct {
	s   *Store
	log history.Log
}

// PastChange is one write of an object. Object is of the hub type: the object
// after the write, or before it where it is a delete.
type PastChange struct {
	Namespace, Name string
	Revision        int64
	// Created and Deleted tell what the write was; else it is an update.
	Created, Deleted bool
	// At is zero where the time is not known.
	At     time.Time
	Object runtime.Object
}

// Past opens the resource's past.
func (s *Store) Past(ctx context.Context) (*Past, error) {
	k, ok := s.kine.(history.Keeper)
	if !ok {
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusNotImplemented, Reason: "NotImplemented",
			Message: "the store is an etcd cluster, which keeps no history: it is kept on SQLite and Postgres",
		}}
	}
	log, err := k.Past(ctx)
	if err != nil {
		return nil, err
	}
	return &Past{s: s, log: log}, nil
}

// RevisionAt is the newest revision at a time.
func (p *Past) RevisionAt(ctx context.Context, at time.Time) (int64, error) {
	rev, err := history.RevisionAt(ctx, p.log, at)
	return rev, gone(err)
}

// Changes are the kept writes of an object, oldest first.
func (p *Past) Changes(ctx context.Context, namespace, name string) ([]PastChange, error) {
	changes, err := history.Changes(ctx, p.log, p.s.Key(namespace, name))
	if err != nil {
		return nil, gone(err)
	}
	return p.decode(ctx, changes)
}

// Deleted are the objects of a namespace, or of all, that are gone and can be
// brought back; the one that went last is first.
func (p *Past) Deleted(ctx context.Context, namespace string) ([]PastChange, error) {
	changes, err := history.Deleted(ctx, p.log, kine.PrefixRange(p.s.scope(namespace)))
	if err != nil {
		return nil, gone(err)
	}
	return p.decode(ctx, changes)
}

// State are the objects of a namespace, or of all, at a revision, or one object
// where name is given. lost are the names whose version of then is not kept.
func (p *Past) State(ctx context.Context, namespace, name string, revision int64) (objects []PastChange, lost []string, err error) {
	r := kine.PrefixRange(p.s.scope(namespace))
	if name != "" {
		r = kine.Range{Start: p.s.Key(namespace, name)}
	}
	kvs, keys, err := history.State(ctx, p.log, r, revision)
	if err != nil {
		return nil, nil, gone(err)
	}
	changes := make([]history.Change, len(kvs))
	for i := range kvs {
		changes[i] = history.Change{Revision: kvs[i].ModRevision, KV: kvs[i]}
	}
	for _, key := range keys {
		namespace, name := p.s.splitKey(key)
		if namespace != "" {
			name = namespace + "/" + name
		}
		lost = append(lost, name)
	}
	objects, err = p.decode(ctx, changes)
	return objects, lost, err
}

func (p *Past) decode(ctx context.Context, changes []history.Change) ([]PastChange, error) {
	out := make([]PastChange, 0, len(changes))
	for _, c := range changes {
		o := PastChange{Revision: c.Revision, Created: !c.Deleted && c.KV.CreateRevision == c.Revision, Deleted: c.Deleted, At: c.At}
		o.Namespace, o.Name = p.s.splitKey(c.KV.Key)
		// Of a delete whose object is not kept, the time is all there is.
		if c.KV.Key != "" {
			plain, _, err := p.s.open(ctx, c.KV.Key, c.KV.Value)
			if err != nil {
				return nil, err
			}
			if o.Object, err = p.s.codec.Decode(plain, c.KV.ModRevision); err != nil {
				return nil, fmt.Errorf("%s at revision %d: %w", c.KV.Key, c.Revision, err)
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// gone turns the end of the history into the answer that clients know.
func gone(err error) error {
	if errors.Is(err, history.ErrNotKept) || errors.Is(err, kine.ErrFutureRevision) {
		return apierrors.NewResourceExpired(err.Error())
	}
	return err
}
