package group

import "context"

// Note remembers how a commit went, and logs when that changes.
func (q *Queue) Note(err error) {
	was := q.Failing()
	switch {
	case err != nil:
		q.failing.Store(&err)
		if was == nil {
			q.log.Error("writes fail; reads go on, and it is tried again", "err", err)
		}
	case was != nil:
		q.failing.Store(nil)
		q.log.Info("writes succeed again")
	}
}

// Failing is why the last commit failed; nil when it did not. The writer then tries
// again by itself, since nobody may write.
func (q *Queue) Failing() error {
	if err := q.failing.Load(); err != nil {
		return *err
	}
	return nil
}

// Probe implements kine.Prober.
func (q *Queue) Probe(ctx context.Context) error {
	if err := q.Serving(ctx); err != nil {
		return err
	}
	return q.Failing()
}
