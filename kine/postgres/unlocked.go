package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lib/pq"

	"skiff/kine"
	"skiff/kine/group"
)

// unlocked plans and commits a group without the revision's lock, where that is
// possible. errBeyond says that it did nothing.
//
// What the operations look at is mostly known, or a new key: then they are planned
// over that, and one statement writes the group if it is true. Else the keys that they
// name are read first. Either way no transaction is open between the round trips.
func (s *Store) unlocked(ctx context.Context, ops []*group.Op) ([]error, *committed, error) {
	if slices.ContainsFunc(ops, func(o *group.Op) bool { return o.Extra != nil }) {
		return nil, nil, errBeyond
	}
	// A connection of its own, since a statement that may have happened is not for the
	// pool to repeat.
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return nil, nil, unavailable(err)
	}
	defer conn.Close()
	if state := s.memory.guess(ctx, ops, s.highest.Load(), time.Now()); state != nil {
		answers, c, err := try(&s.guesses, func() ([]error, *committed, error) { return s.attempt(ctx, conn, state, ops) })
		if !errors.Is(err, errBeyond) {
			return answers, c, err
		}
	}
	return try(&s.glances, func() ([]error, *committed, error) {
		state := &txState{ctx: ctx}
		if err := state.glance(conn, ops); err != nil || state.revision < s.highest.Load() {
			return nil, nil, errBeyond // whatever is wrong is told under the lock
		}
		return s.attempt(ctx, conn, state, ops)
	})
}

// try leaves out for a while what was in vain.
func try(doubt *group.Doubt, do func() ([]error, *committed, error)) ([]error, *committed, error) {
	if !doubt.Try() {
		return nil, nil, errBeyond
	}
	answers, c, err := do()
	if errors.Is(err, errBeyond) {
		doubt.Failed()
	} else {
		doubt.Paid()
	}
	return answers, c, err
}

// attempt plans a group over a state and stores it if that is still the newest one.
func (s *Store) attempt(ctx context.Context, conn *sql.Conn, state *txState, ops []*group.Op) ([]error, *committed, error) {
	answers, b, _, err := s.plan(state, ops)
	if err != nil {
		return nil, nil, err
	}
	if len(b.Writes()) == 0 {
		if state.absent != nil {
			err = errBeyond // nothing would find out whether the guess is right
		}
		return answers, nil, err
	}
	n, err := s.store(ctx, conn, state, b)
	switch {
	case err == nil && n == 0, refusal(err) == "40":
		return nil, nil, errBeyond // another server wrote, or the guess was wrong
	case err == nil:
		return answers, s.committed(state, b), nil
	case refusal(err) != "":
		return nil, nil, unavailable(err)
	}
	return nil, nil, fmt.Errorf("%w: %w", kine.ErrUnknownOutcome, err)
}

// refusal is the class of the error by which the database says that a statement or a
// commit did not happen; empty when it does not say so.
func refusal(err error) string {
	var refused *pq.Error
	if errors.As(err, &refused) && refused.Code.Class() != "57" && refused.Code.Class() != "08" {
		return string(refused.Code.Class())
	}
	return ""
}
