package state

import (
	"net/netip"
	"slices"
)

// ranges finds the longest prefix that contains an address. The prefixes are
// turned into ranges that do not overlap, each with the prefix that wins there, so
// that a look-up is one binary search however many prefixes there are. It never
// changes once made.
type ranges struct {
	starts []netip.Addr // ascending; a range ends where the next one starts
	values []int        // index of the winning prefix, -1 for none
}

// newRanges makes the table; the value of an address is the index of its prefix.
// Of equal prefixes the last one wins.
func newRanges(prefixes []netip.Prefix) *ranges {
	order := make([]int, len(prefixes))
	masked := make([]netip.Prefix, len(prefixes))
	for i, p := range prefixes {
		order[i], masked[i] = i, p.Masked()
	}
	// Prefixes are nested or disjoint: the outer one comes first.
	slices.SortStableFunc(order, func(a, b int) int {
		if c := masked[a].Addr().Compare(masked[b].Addr()); c != 0 {
			return c
		}
		return masked[a].Bits() - masked[b].Bits()
	})
	r := &ranges{}
	r.begin(netip.IPv4Unspecified(), -1)
	r.begin(netip.IPv6Unspecified(), -1)
	var around []int // the prefixes that contain the one at hand, innermost last
	leave := func(until netip.Addr) {
		for n := len(around); n > 0; n = len(around) {
			inner := masked[around[n-1]]
			after := lastOf(inner).Next() // invalid after the last address of a family
			if until.IsValid() && inner.Contains(until) {
				return
			}
			around = around[:n-1]
			outer := -1
			if len(around) > 0 {
				outer = around[len(around)-1]
			}
			if after.IsValid() {
				r.begin(after, outer)
			}
		}
	}
	for _, i := range order {
		leave(masked[i].Addr())
		r.begin(masked[i].Addr(), i)
		around = append(around, i)
	}
	leave(netip.Addr{})
	r.sort()
	return r
}

func (r *ranges) begin(a netip.Addr, value int) {
	r.starts = append(r.starts, a)
	r.values = append(r.values, value)
}

// sort orders the ranges by their start; of equal starts the last one counts.
func (r *ranges) sort() {
	order := make([]int, len(r.starts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return r.starts[a].Compare(r.starts[b]) })
	sorted := ranges{}
	for _, i := range order {
		if n := len(sorted.starts); n > 0 && sorted.starts[n-1] == r.starts[i] {
			sorted.values[n-1] = r.values[i]
			continue
		}
		sorted.begin(r.starts[i], r.values[i])
	}
	*r = sorted
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().As16()
	for bit := 128 - p.Addr().BitLen() + p.Bits(); bit < 128; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	a := netip.AddrFrom16(raw)
	if p.Addr().Is4() {
		a = a.Unmap()
	}
	return a
}

// find returns the index of the longest prefix that contains the address, -1 if
// none does.
func (r *ranges) find(a netip.Addr) int {
	low, high := 0, len(r.starts)
	for low < high {
		middle := int(uint(low+high) / 2)
		if r.starts[middle].Compare(a) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return -1
	}
	return r.values[low-1]
}
