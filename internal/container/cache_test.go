package container

import "testing"

// TestCache: the bound holds, what is used survives, and every early loss counts.
func TestCache(t *testing.T) {
	c := newCache[int, int](100)
	for i := range 1000 {
		c.put(i, -i)
		if _, ok := c.get(0); !ok {
			t.Fatalf("the entry in use was evicted at %d", i)
		}
	}
	if got := c.stats(); got != (CacheStats{Entries: 100, Max: 100, Evictions: 900}) {
		t.Errorf("%+v", got)
	}
	if v, ok := c.get(999); !ok || v != -999 {
		t.Errorf("the newest is %v, %v", v, ok)
	}
	c.review(func(k int, _ *int) bool { return k == 0 })
	if got := c.stats(); got != (CacheStats{Entries: 1, Max: 100, Evictions: 900}) {
		t.Errorf("after forgetting: %+v", got)
	}
	c.put(0, 7)
	if v, _ := c.get(0); v != 7 {
		t.Errorf("replaced: %v", v)
	}
	for i := range 100 {
		c.put(i, i)
	}
	if got := c.stats(); got.Entries != 100 || got.Evictions != 900 {
		t.Errorf("refilled: %+v", got)
	}
}

func TestCacheHitAllocatesNothing(t *testing.T) {
	c := newCache[uint64, group](10)
	c.put(1, group{place: Host})
	if n := testing.AllocsPerRun(100, func() { c.get(1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
