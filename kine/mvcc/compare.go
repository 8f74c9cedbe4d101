package mvcc

import (
	"bytes"
	"cmp"

	"skiff/kine"
)

// holds tells whether every compare holds in the batch's state.
func (b *Batch) holds(compares []kine.Compare) (bool, error) {
	for i := range compares {
		ok, err := b.compare(&compares[i])
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// compare checks one guard. A range without keys holds, but for values: as in
// etcd, a value compare fails on a key that is absent.
func (b *Batch) compare(c *kine.Compare) (bool, error) {
	if c.RangeEnd == "" {
		v, err := b.newest(c.Key)
		if err != nil {
			return false, err
		}
		return b.compareVersion(c, v)
	}
	versions, _, err := b.scan(kine.Range{Start: c.Key, End: c.RangeEnd}, 0)
	if err != nil {
		return false, err
	}
	if len(versions) == 0 {
		return b.compareVersion(c, nil)
	}
	for _, v := range versions {
		ok, err := b.compareVersion(c, v)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// compareVersion checks a guard against one version, nil for an absent key.
func (b *Batch) compareVersion(c *kine.Compare, v *Version) (bool, error) {
	if c.Target == kine.TargetValue {
		if v == nil {
			return false, nil
		}
		value, err := b.value(v)
		if err != nil {
			return false, err
		}
		return satisfies(bytes.Compare(value, c.Value), c.Result), nil
	}
	var n int64
	if v != nil {
		switch c.Target {
		case kine.TargetMod:
			n = v.Pos.Revision()
		case kine.TargetCreate:
			n = v.Created
		case kine.TargetVersion:
			n = v.Count
		case kine.TargetLease:
			n = v.Lease
		}
	}
	return satisfies(cmp.Compare(n, c.Number), c.Result), nil
}

// satisfies maps a three-way order onto a compare's demand.
func satisfies(order int, result kine.CompareResult) bool {
	switch result {
	case kine.Equal:
		return order == 0
	case kine.NotEqual:
		return order != 0
	case kine.Greater:
		return order > 0
	case kine.Less:
		return order < 0
	}
	return false
}
