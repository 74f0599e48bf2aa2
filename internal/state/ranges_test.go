package state

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// longest is the look-up done the slow way.
func longest(prefixes []netip.Prefix, a netip.Addr) (best int) {
	best = -1
	for i, p := range prefixes {
		if p.Masked().Contains(a) && (best < 0 || p.Bits() >= prefixes[best].Bits()) {
			best = i
		}
	}
	return best
}

// TestRangesFindTheLongestPrefix compares with the slow way, for prefixes and
// addresses that lie close together and at the ends of both families.
func TestRangesFindTheLongestPrefix(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr {
		var raw [16]byte
		ends := [...]byte{0, 1, 127, 128, 254, 255}
		for i := range raw {
			raw[i] = ends[random.IntN(len(ends))]
		}
		if random.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte(raw[:4]))
		}
		return netip.AddrFrom16(raw)
	}
	for range 500 {
		prefixes := make([]netip.Prefix, random.IntN(40))
		for i := range prefixes {
			a := addr()
			prefixes[i] = netip.PrefixFrom(a, random.IntN(a.BitLen()+1))
		}
		r := newRanges(prefixes)
		for range 200 {
			a := addr()
			if got, want := r.find(a), longest(prefixes, a); got != want {
				t.Fatalf("%v in %v: %d, want %d", a, prefixes, got, want)
			}
		}
		for _, p := range prefixes {
			for _, a := range []netip.Addr{p.Masked().Addr(), lastOf(p.Masked()), p.Masked().Addr().Prev(), lastOf(p.Masked()).Next()} {
				if got, want := r.find(a), longest(prefixes, a); a.IsValid() && got != want {
					t.Fatalf("%v at the edge of %v: %d, want %d", a, p, got, want)
				}
			}
		}
	}
}

func TestClasses(t *testing.T) {
	s := newFixture(t, nil)
	for text, want := range map[string]Class{
		"127.0.0.1": Loopback, "127.255.255.255": Loopback, "::1": Loopback, "::2": Public,
		"10.255.0.1": Private, "11.0.0.1": Public, "100.127.255.255": Private, "100.128.0.0": Public,
		"fe80::1": Private, "fd00::1": Private, "2001:db8::1": Public, "255.255.255.255": Public,
	} {
		if got := s.classOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: class %d, want %d", text, got, want)
		}
	}
}
