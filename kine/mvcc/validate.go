package mvcc

import (
	"fmt"

	"skiff/kine"
)

// Refusals of transactions that etcd's protocol tells apart.
var (
	ErrDuplicateKey = fmt.Errorf("duplicate key: %w", kine.ErrInvalid)
	ErrTooManyOps   = fmt.Errorf("too many operations: %w", kine.ErrTooLarge)
)

// maxDepth bounds how deep transactions nest.
const maxDepth = 32

// CheckTxn refuses a transaction that makes no sense or exceeds the limits,
// before it is looked at in any state.
func (l Limits) CheckTxn(t *kine.Txn) error {
	size := 0
	if err := l.checkShape(t, &size, 0); err != nil {
		return err
	}
	if size > l.RequestBytes {
		return fmt.Errorf("transaction takes %d bytes, the limit is %d: %w", size, l.RequestBytes, kine.ErrTooLarge)
	}
	for _, ops := range [][]kine.Op{t.Success, t.Failure} {
		if _, _, err := touched(ops); err != nil {
			return err
		}
	}
	return nil
}

func (l Limits) checkShape(t *kine.Txn, size *int, depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("transaction nests deeper than %d: %w", maxDepth, kine.ErrInvalid)
	}
	if n := max(len(t.Compares), len(t.Success), len(t.Failure)); n > l.TxnOps {
		return fmt.Errorf("transaction has %d operations, the limit is %d: %w", n, l.TxnOps, ErrTooManyOps)
	}
	for i := range t.Compares {
		c := &t.Compares[i]
		if c.Key == "" {
			return fmt.Errorf("compare %d has an empty key: %w", i, kine.ErrInvalid)
		}
		if c.Target < kine.TargetMod || c.Target > kine.TargetValue || c.Result < kine.Equal || c.Result > kine.Less {
			return fmt.Errorf("compare %d of key %.80q has an unknown target or result: %w", i, c.Key, kine.ErrInvalid)
		}
		*size += len(c.Key) + len(c.RangeEnd) + len(c.Value)
	}
	for _, ops := range [][]kine.Op{t.Success, t.Failure} {
		for i := range ops {
			if err := l.checkOp(&ops[i], size, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l Limits) checkOp(op *kine.Op, size *int, depth int) error {
	if op.Type == kine.OpTxn {
		if op.Txn == nil {
			return fmt.Errorf("nested transaction is empty: %w", kine.ErrInvalid)
		}
		return l.checkShape(op.Txn, size, depth+1)
	}
	*size += len(op.Range.Start) + len(op.Range.End) + len(op.Value)
	switch op.Type {
	case kine.OpPut:
		switch {
		case op.Range.Start == "" || op.Range.End != "":
			return fmt.Errorf("put needs exactly one key: %w", kine.ErrInvalid)
		case op.IgnoreValue && len(op.Value) > 0:
			return fmt.Errorf("put of key %.80q both gives and ignores a value: %w", op.Range.Start, kine.ErrInvalid)
		case op.IgnoreLease && op.Lease != 0:
			return fmt.Errorf("put of key %.80q both gives and ignores a lease: %w", op.Range.Start, kine.ErrInvalid)
		}
	case kine.OpRange, kine.OpDelete:
		if op.Range.Start == "" && op.Range.End == "" {
			return fmt.Errorf("operation has an empty key: %w", kine.ErrInvalid)
		}
		if op.Read.Limit < 0 {
			return fmt.Errorf("limit %d is negative: %w", op.Read.Limit, kine.ErrInvalid)
		}
	default:
		return fmt.Errorf("operation type %d is unknown: %w", op.Type, kine.ErrInvalid)
	}
	return nil
}

// touched lists the keys that ops may put and the ranges they may delete. It
// refuses a key that two operations which can both run would write, since
// one revision holds one value of a key.
func touched(ops []kine.Op) (puts map[string]struct{}, deletes []kine.Range, err error) {
	puts = map[string]struct{}{}
	for i := range ops {
		if ops[i].Type == kine.OpDelete {
			deletes = append(deletes, ops[i].Range)
		}
	}
	add := func(key string) error {
		if _, ok := puts[key]; ok {
			return fmt.Errorf("key %.80q is put twice in one transaction: %w", key, ErrDuplicateKey)
		}
		for _, r := range deletes {
			if r.Contains(key) {
				return fmt.Errorf("key %.80q is put and deleted in one transaction: %w", key, ErrDuplicateKey)
			}
		}
		return nil
	}
	for i := range ops {
		if ops[i].Type != kine.OpTxn {
			continue
		}
		// Of the two branches one runs, so they do not collide with each other.
		then, thenDeletes, err := touched(ops[i].Txn.Success)
		if err != nil {
			return nil, nil, err
		}
		other, otherDeletes, err := touched(ops[i].Txn.Failure)
		if err != nil {
			return nil, nil, err
		}
		for key := range other {
			then[key] = struct{}{}
		}
		nested := append(thenDeletes, otherDeletes...)
		for key := range puts {
			for _, r := range nested {
				if r.Contains(key) {
					return nil, nil, fmt.Errorf("key %.80q is put and deleted in one transaction: %w", key, ErrDuplicateKey)
				}
			}
		}
		for key := range then {
			if err := add(key); err != nil {
				return nil, nil, err
			}
		}
		for key := range then {
			puts[key] = struct{}{}
		}
		deletes = append(deletes, nested...)
	}
	for i := range ops {
		if ops[i].Type != kine.OpPut {
			continue
		}
		if err := add(ops[i].Range.Start); err != nil {
			return nil, nil, err
		}
		puts[ops[i].Range.Start] = struct{}{}
	}
	return puts, deletes, nil
}

// Writes tells whether a branch of the transaction could write.
func Writes(t *kine.Txn) bool {
	for _, ops := range [][]kine.Op{t.Success, t.Failure} {
		for i := range ops {
			switch ops[i].Type {
			case kine.OpPut, kine.OpDelete:
				return true
			case kine.OpTxn:
				if ops[i].Txn != nil && Writes(ops[i].Txn) {
					return true
				}
			}
		}
	}
	return false
}

// Puts tells whether a branch of the transaction could put: what a full store
// refuses, while it still takes deletes.
func Puts(t *kine.Txn) bool {
	for _, ops := range [][]kine.Op{t.Success, t.Failure} {
		for i := range ops {
			if ops[i].Type == kine.OpPut || ops[i].Type == kine.OpTxn && ops[i].Txn != nil && Puts(ops[i].Txn) {
				return true
			}
		}
	}
	return false
}
