package mvcc

import (
	"fmt"

	"skiff/kine"
)

// chosen is a transaction with its branches decided.
type chosen struct {
	succeeded bool
	ops       []kine.Op
	// nested answers ops[i] for each i that is an OpTxn.
	nested map[int]*chosen
}

// Txn plans a transaction that Limits.CheckTxn accepted.
//
// As in etcd all compares, the nested ones too, look at the state before the
// transaction; ranges in it see the operations before them.
func (b *Batch) Txn(t *kine.Txn) (kine.TxnResult, error) {
	path, err := b.choose(t)
	if err != nil {
		return kine.TxnResult{}, err
	}
	if err := b.checkRanges(path); err != nil {
		return kine.TxnResult{}, err
	}
	run := txnRun{b: b, revision: b.revision + 1, mark: len(b.writes), before: map[string]*Version{}}
	if err := b.checkRevisions(); err != nil {
		return kine.TxnResult{}, err
	}
	result, err := run.execute(path)
	if err != nil {
		run.undo()
		return kine.TxnResult{}, err
	}
	if len(b.writes) > run.mark {
		b.revision = run.revision
	}
	stamp(&result, b.revision)
	return result, nil
}

// choose decides the branches of t and of what is nested in the chosen one.
func (b *Batch) choose(t *kine.Txn) (*chosen, error) {
	ok, err := b.holds(t.Compares)
	if err != nil {
		return nil, err
	}
	c := &chosen{succeeded: ok, ops: t.Failure}
	if ok {
		c.ops = t.Success
	}
	for i := range c.ops {
		if c.ops[i].Type != kine.OpTxn {
			continue
		}
		n, err := b.choose(c.ops[i].Txn)
		if err != nil {
			return nil, err
		}
		if c.nested == nil {
			c.nested = map[int]*chosen{}
		}
		c.nested[i] = n
	}
	return c, nil
}

// checkRanges refuses reads at revisions that cannot be read, before anything
// is written.
func (b *Batch) checkRanges(c *chosen) error {
	for i := range c.ops {
		switch op := &c.ops[i]; op.Type {
		case kine.OpRange:
			if err := checkRevision(op.Read.Revision, b.revision, b.compact); err != nil {
				return err
			}
		case kine.OpTxn:
			if err := b.checkRanges(c.nested[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// txnRun executes the chosen operations and can take them back.
type txnRun struct {
	b        *Batch
	revision int64
	mark     int
	// before holds what was pending for each key that the transaction wrote;
	// nil when nothing was.
	before map[string]*Version
}

func (r *txnRun) undo() {
	for _, w := range r.b.writes[r.mark:] {
		delete(r.b.values, w.Version.Pos)
	}
	r.b.writes = r.b.writes[:r.mark]
	for key, v := range r.before {
		if v == nil {
			delete(r.b.pending, key)
		} else {
			r.b.pending[key] = v
		}
	}
}

// remember keeps what is pending for key so that undo can bring it back.
func (r *txnRun) remember(key string) {
	if _, ok := r.before[key]; !ok {
		r.before[key] = r.b.pending[key]
	}
}

// pos is the place of the transaction's next write.
func (r *txnRun) pos() (Pos, error) {
	sub := len(r.b.writes) - r.mark
	if sub >= MaxWritesPerRevision {
		return 0, fmt.Errorf("transaction writes more than %d keys; use smaller ranges: %w", MaxWritesPerRevision, kine.ErrTooLarge)
	}
	return At(r.revision, sub), nil
}

func (r *txnRun) execute(c *chosen) (kine.TxnResult, error) {
	result := kine.TxnResult{Succeeded: c.succeeded, Results: make([]kine.OpResult, len(c.ops))}
	for i := range c.ops {
		op, out := &c.ops[i], &result.Results[i]
		var err error
		switch op.Type {
		case kine.OpRange:
			err = r.read(op, out)
		case kine.OpPut:
			err = r.put(op, out)
		case kine.OpDelete:
			err = r.remove(op, out)
		case kine.OpTxn:
			var nested kine.TxnResult
			nested, err = r.execute(c.nested[i])
			out.Txn = &nested
		}
		if err != nil {
			return kine.TxnResult{}, err
		}
	}
	return result, nil
}

func (r *txnRun) read(op *kine.Op, out *kine.OpResult) error {
	b := r.b
	var versions []*Version
	var err error
	committed, _ := b.state.Revisions()
	switch rev := op.Read.Revision; {
	case rev == 0 || rev == b.revision && len(b.writes) == r.mark:
		versions, out.Read.Count, err = b.scan(op.Range, op.Read.Limit)
	case rev <= committed:
		var s Selection
		s, err = b.state.Select(op.Range, rev, op.Read.Limit)
		versions, out.Read.Count = s.Versions, s.Count
	default:
		// A revision that this batch itself gave, but not the newest one.
		versions, out.Read.Count, err = b.scanAt(op.Range, rev, op.Read.Limit)
	}
	if err != nil {
		return err
	}
	out.Read.More = op.Read.Limit > 0 && out.Read.Count > int64(len(versions))
	out.Read.KVs = make([]kine.KeyValue, len(versions))
	for i, v := range versions {
		var value []byte
		if !op.Read.KeysOnly {
			if value, err = b.value(v); err != nil {
				return err
			}
		}
		out.Read.KVs[i] = v.KeyValue(value)
	}
	return nil
}

// scanAt reads a range as it was after one of the batch's own revisions.
func (b *Batch) scanAt(r kine.Range, revision, limit int64) ([]*Version, int64, error) {
	s, err := b.state.Select(r, 0, 0)
	if err != nil {
		return nil, 0, err
	}
	versions := s.Versions
	for i := range b.writes {
		v := b.writes[i].Version
		if v.Pos.Revision() > revision {
			break
		}
		if r.Contains(v.Key) {
			versions = merge(versions, []*Version{v})
		}
	}
	count := int64(len(versions))
	if limit > 0 && count > limit {
		versions = versions[:limit]
	}
	return versions, count, nil
}

func (r *txnRun) put(op *kine.Op, out *kine.OpResult) error {
	b, key := r.b, op.Range.Start
	value, lease := op.Value, op.Lease
	if lease != 0 && !b.hasLease(lease) {
		return kine.ErrLeaseNotFound
	}
	old, err := b.newest(key)
	if err != nil {
		return err
	}
	if (op.IgnoreValue || op.IgnoreLease) && old == nil {
		return fmt.Errorf("put of key %.80q keeps a value or lease that is not there: %w", key, kine.ErrKeyNotFound)
	}
	if op.IgnoreValue {
		if value, err = b.value(old); err != nil {
			return err
		}
	}
	if op.IgnoreLease {
		lease = old.Lease
	}
	if op.PrevKV && old != nil {
		prev, err := b.value(old)
		if err != nil {
			return err
		}
		out.PrevKVs = []kine.KeyValue{old.KeyValue(prev)}
	}
	pos, err := r.pos()
	if err != nil {
		return err
	}
	r.remember(key)
	b.put(pos, key, value, lease, old)
	return nil
}

func (r *txnRun) remove(op *kine.Op, out *kine.OpResult) error {
	b := r.b
	versions, count, err := b.scan(op.Range, 0)
	if err != nil {
		return err
	}
	out.Deleted = count
	for _, v := range versions {
		var value []byte
		if op.PrevKV {
			if value, err = b.value(v); err != nil {
				return err
			}
			out.PrevKVs = append(out.PrevKVs, v.KeyValue(value))
		} else {
			value = b.values[v.Pos]
		}
		pos, err := r.pos()
		if err != nil {
			return err
		}
		r.remember(v.Key)
		b.remove(pos, v, value)
	}
	return nil
}

// stamp writes the final revision into every header of a result.
func stamp(result *kine.TxnResult, revision int64) {
	result.Revision = revision
	for i := range result.Results {
		result.Results[i].Read.Revision = revision
		if n := result.Results[i].Txn; n != nil {
			stamp(n, revision)
		}
	}
}
