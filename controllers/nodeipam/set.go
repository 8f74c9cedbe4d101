package nodeipam

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
)

// maxBlocks bounds the table of one range.
const maxBlocks = 1 << 20

var errFull = errors.New("CIDR allocation failed; there are no remaining CIDRs left to allocate in the accepted range")

// blocks is a range cut into equal blocks of which some are taken.
type blocks struct {
	prefix netip.Prefix
	bits   int // of one block
	count  int
	taken  map[int]string // index to node
	next   int
}

func newBlocks(prefix netip.Prefix, bits int) (*blocks, error) {
	prefix = prefix.Masked()
	if bits < prefix.Bits() || bits > prefix.Addr().BitLen() {
		return nil, fmt.Errorf("node CIDR mask size %d does not fit the cluster CIDR %s: give one from %d to %d", bits, prefix, prefix.Bits(), prefix.Addr().BitLen())
	}
	width := bits - prefix.Bits()
	count := maxBlocks
	if width < 20 {
		count = 1 << width
	}
	return &blocks{prefix: prefix, bits: bits, count: count, taken: map[int]string{}}, nil
}

// at is the n-th block.
func (b *blocks) at(n int) netip.Prefix {
	raw := b.prefix.Addr().As16()
	if b.prefix.Addr().Is4() {
		four := b.prefix.Addr().As4()
		copy(raw[:], make([]byte, 12))
		copy(raw[12:], four[:])
	}
	sum := new(big.Int).SetBytes(raw[:])
	step := new(big.Int).Lsh(big.NewInt(int64(n)), uint(b.prefix.Addr().BitLen()-b.bits))
	sum.Add(sum, step).FillBytes(raw[:])
	if b.prefix.Addr().Is4() {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(raw[12:])), b.bits)
	}
	return netip.PrefixFrom(netip.AddrFrom16(raw), b.bits)
}

// index is the block that p starts in; false when p lies elsewhere.
func (b *blocks) index(p netip.Prefix) (int, bool) {
	if p.Addr().Is4() != b.prefix.Addr().Is4() || !b.prefix.Contains(p.Addr()) {
		return 0, false
	}
	x, y := p.Addr().As16(), b.prefix.Addr().As16()
	diff := new(big.Int).Sub(new(big.Int).SetBytes(x[:]), new(big.Int).SetBytes(y[:]))
	diff.Rsh(diff, uint(b.prefix.Addr().BitLen()-b.bits))
	if !diff.IsInt64() || diff.Int64() >= int64(b.count) {
		return 0, false
	}
	return int(diff.Int64()), true
}

// occupy takes every block that p touches for who.
func (b *blocks) occupy(p netip.Prefix, who string) {
	first, ok := b.index(p.Masked())
	if !ok {
		if p.Overlaps(b.prefix) && p.Bits() <= b.prefix.Bits() {
			for i := range b.count {
				b.taken[i] = who
			}
		}
		return
	}
	n := 1
	if p.Bits() < b.bits {
		n = 1 << min(20, b.bits-p.Bits())
	}
	for i := first; i < min(b.count, first+n); i++ {
		b.taken[i] = who
	}
}

// take gives who the next free block. Blocks are used in turn, so that one that
// was just given up is not reused while routes to it linger.
func (b *blocks) take(who string) (netip.Prefix, error) {
	for range b.count {
		i := b.next
		b.next = (b.next + 1) % b.count
		if _, used := b.taken[i]; !used {
			b.taken[i] = who
			return b.at(i), nil
		}
	}
	return netip.Prefix{}, errFull
}

// release gives back all that who holds.
func (b *blocks) release(who string) {
	for i, holder := range b.taken {
		if holder == who {
			delete(b.taken, i)
		}
	}
}
