package local

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Range is a stretch of addresses of one family, both ends included.
type Range struct{ First, Last netip.Addr }

// ParseRange reads "192.0.2.10-192.0.2.20", "192.0.2.0/28" or one address. Of an
// IPv4 network the first and last address stay unused.
func ParseRange(text string) (Range, error) {
	bad := func(err error) (Range, error) {
		return Range{}, fmt.Errorf("address range %q: want FIRST-LAST, a CIDR or an address: %w", text, err)
	}
	if from, to, ok := strings.Cut(text, "-"); ok {
		a, err := netip.ParseAddr(strings.TrimSpace(from))
		if err != nil {
			return bad(err)
		}
		b, err := netip.ParseAddr(strings.TrimSpace(to))
		if err != nil {
			return bad(err)
		}
		r := Range{a.Unmap(), b.Unmap()}
		return r, r.valid()
	}
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return bad(err)
		}
		return Range{a.Unmap(), a.Unmap()}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return bad(err)
	}
	r := Range{p.Masked().Addr(), last(p)}
	if r.First.Is4() && p.Bits() < 31 {
		r.First, r.Last = r.First.Next(), r.Last.Prev()
	}
	return r, nil
}

func last(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw) // a prefix has an address of 4 or 16 bytes
	return a
}

func (r Range) valid() error {
	if !r.First.IsValid() || !r.Last.IsValid() || r.First.Is4() != r.Last.Is4() || r.Last.Less(r.First) {
		return fmt.Errorf("address range %s-%s: want a first and a later last address of one family", r.First, r.Last)
	}
	return nil
}

// String is FIRST-LAST.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// ParsePool reads the ranges of a pool.
func ParsePool(texts []string) ([]Range, error) {
	var out []Range
	for _, text := range texts {
		r, err := ParseRange(text)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// InPool tells whether an address is in one of the ranges.
func InPool(pool []Range, a netip.Addr) bool {
	return slices.ContainsFunc(pool, func(r Range) bool { return r.contains(a) })
}

func (r Range) contains(a netip.Addr) bool {
	return a.Is4() == r.First.Is4() && !a.Less(r.First) && !r.Last.Less(a)
}

// free is the first address of the range that is not used.
func (r Range) free(used map[netip.Addr]string) (netip.Addr, bool) {
	for a := r.First; ; a = a.Next() {
		if _, taken := used[a]; !taken {
			return a, true
		}
		if a == r.Last {
			return netip.Addr{}, false
		}
	}
}
