package serviceip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	"skiff/kine"
)

// bookKey is where upstream keeps the node ports that are given out.
const bookKey = "/registry/ranges/servicenodeports"

// grantsAnnotation of the stored book names the ports that were given to requests
// which may not have written their Service yet.
const grantsAnnotation = "skiff.io/recent-grants"

// settled is the age at which a grant's Service is written or never will be: no
// request lives longer.
const settled = 2 * time.Minute

// ports is the book's content. It is a value of its own: changes are made on it,
// and then stored if nobody else changed the book in between.
type ports struct {
	min, max int
	bits     *big.Int
	grants   map[int32]grant
	// revision is the store's when the book was read.
	revision int64
}

// grant is a port of a request that may be under way. It was made when the store
// was at Revision.
type grant struct {
	Revision int64 `json:"revision"`
	// At is in nanoseconds: it comes back from the store as it was.
	At int64 `json:"at"`
}

func (g grant) age(now time.Time) time.Duration { return now.Sub(time.Unix(0, g.At)) }

func (p *ports) has(n int32) bool { return p.within(n) && p.bits.Bit(int(n)-p.min) == 1 }

func (p *ports) within(n int32) bool { return int(n) >= p.min && int(n) <= p.max }

func (p *ports) take(n int32, now time.Time) {
	p.bits.SetBit(p.bits, int(n)-p.min, 1)
	p.grants[n] = grant{Revision: p.revision, At: now.UnixNano()}
}

func (p *ports) give(n int32) {
	if p.within(n) {
		p.bits.SetBit(p.bits, int(n)-p.min, 0)
		delete(p.grants, n)
	}
}

// underWay tells whether a request has the port and may not have written its
// Service. One that was granted before the revision since, at which the port's
// Service was seen to let go of it, is not: that Service had the grant.
func (p *ports) underWay(n int32, since int64, now time.Time) bool {
	g, ok := p.grants[n]
	return ok && g.Revision >= since && g.age(now) < settled
}

// free picks a port: by chance, so that servers seldom want the same one. The
// first ports of a large range are left for those that are asked for (KEP-3668).
func (p *ports) free() (int32, bool) {
	size := p.max - p.min + 1
	asked := 0
	if size >= 32 {
		asked = min(max(16, size/32), 128)
	}
	for _, band := range [][2]int{{asked, size - asked}, {0, asked}} {
		if band[1] == 0 {
			continue
		}
		start := rand.IntN(band[1])
		for i := range band[1] {
			if at := band[0] + (start+i)%band[1]; p.bits.Bit(at) == 0 {
				return int32(p.min + at), true
			}
		}
	}
	return 0, false
}

func (p *ports) spec() string { return fmt.Sprintf("%d-%d", p.min, p.max) }

// encode is the book as upstream stores it.
func (p *ports) encode(into *corev1.RangeAllocation, now time.Time) ([]byte, error) {
	maps.DeleteFunc(p.grants, func(_ int32, g grant) bool { return g.age(now) >= settled })
	into.TypeMeta.APIVersion, into.Kind = "v1", "RangeAllocation"
	into.Range, into.Data = p.spec(), p.bits.Bytes()
	delete(into.Annotations, grantsAnnotation)
	if len(p.grants) > 0 {
		raw, err := json.Marshal(p.grants)
		if err != nil {
			return nil, err
		}
		if into.Annotations == nil {
			into.Annotations = map[string]string{}
		}
		into.Annotations[grantsAnnotation] = string(raw)
	}
	var buf bytesBuffer
	if err := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(into, &buf); err != nil {
		return nil, fmt.Errorf("encoding the book of node ports: %w", err)
	}
	return buf, nil
}

type bytesBuffer []byte

func (b *bytesBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// book is the object that all API servers share.
type book struct {
	store    kine.Store
	min, max int
	now      func() time.Time
	// used are the ports that Services have, read from the server and not from a cache.
	used func(ctx context.Context) (map[int32]bool, error)
}

// read is the book as it is now; mod is its revision, 0 where there is none.
func (b *book) read(ctx context.Context) (p *ports, stored *corev1.RangeAllocation, mod int64, err error) {
	res, err := b.store.Get(ctx, bookKey, kine.ReadOptions{})
	if err != nil {
		return nil, nil, 0, fmt.Errorf("reading the book of node ports: %w", err)
	}
	p = &ports{min: b.min, max: b.max, bits: new(big.Int), grants: map[int32]grant{}, revision: res.Revision}
	stored = &corev1.RangeAllocation{}
	if len(res.KVs) > 0 {
		mod = res.KVs[0].ModRevision
		if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(res.KVs[0].Value, nil, stored); err != nil {
			return nil, nil, 0, fmt.Errorf("the book of node ports, %s, cannot be read: %w", bookKey, err)
		}
	}
	if stored.Range == p.spec() {
		p.bits.SetBytes(stored.Data)
		if text := stored.Annotations[grantsAnnotation]; text != "" {
			if err := json.Unmarshal([]byte(text), &p.grants); err != nil {
				return nil, nil, 0, fmt.Errorf("the book of node ports, annotation %s: %w", grantsAnnotation, err)
			}
		}
		return p, stored, mod, nil
	}
	// There is no book, or one of another range: it is made of what Services have.
	used, err := b.used(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	for n := range used {
		if p.within(n) {
			p.bits.SetBit(p.bits, int(n)-p.min, 1)
		}
	}
	return p, stored, mod, nil
}

// change makes a change and stores it, again from the start whenever another
// server was faster.
func (b *book) change(ctx context.Context, change func(p *ports) error) error {
	for {
		p, stored, mod, err := b.read(ctx)
		if err != nil {
			return err
		}
		before, grants := new(big.Int).Set(p.bits), len(p.grants)
		if err := change(p); err != nil {
			return err
		}
		if mod != 0 && stored.Range == p.spec() && before.Cmp(p.bits) == 0 && grants == len(p.grants) {
			return nil
		}
		raw, err := p.encode(stored, b.now())
		if err != nil {
			return err
		}
		if mod == 0 {
			_, err = b.store.Create(ctx, bookKey, raw, 0)
		} else {
			_, err = b.store.Update(ctx, bookKey, raw, mod, 0)
		}
		var conflict *kine.ConflictError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &conflict), errors.Is(err, kine.ErrKeyExists), errors.Is(err, kine.ErrKeyNotFound):
		default:
			return fmt.Errorf("writing the book of node ports: %w", err)
		}
	}
}

// portRelease is a port whose Service was seen without it at a revision.
type portRelease struct {
	port  int32
	since int64
}

// release frees the ports that no Service has and no request is about to have.
func (b *book) release(ctx context.Context, list []portRelease) error {
	if len(list) == 0 {
		return nil
	}
	return b.change(ctx, func(p *ports) error {
		used, err := b.used(ctx)
		if err != nil {
			return err
		}
		for _, r := range list {
			if p.has(r.port) && !used[r.port] && !p.underWay(r.port, r.since, b.now()) {
				p.give(r.port)
			}
		}
		return nil
	})
}

// repair makes the book equal to what Services have, and what requests are about to.
func (b *book) repair(ctx context.Context) error {
	return b.change(ctx, func(p *ports) error {
		used, err := b.used(ctx)
		if err != nil {
			return err
		}
		for n := int32(p.min); n <= int32(p.max); n++ {
			switch {
			case used[n] && !p.has(n):
				p.bits.SetBit(p.bits, int(n)-p.min, 1)
			case p.has(n) && !used[n] && !p.underWay(n, 0, b.now()):
				p.give(n)
			}
		}
		return nil
	})
}
