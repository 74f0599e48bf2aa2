package bpf

// The kernel's histogram layout (headers/hist.bpf.h).
const (
	histSlots    = 210
	histFirstNS  = -119 // native index of slot 1 where nanoseconds were observed
	histFirstInt = 0    // the same for plain integers
)

// buckets presents aggregated slots; the slice is shared, not copied.
func bucketsNS(slots []uint64, sum uint64) Buckets {
	return Buckets{First: histFirstNS, Zero: slots[0], Counts: slots[1:], Sum: sum, Nanoseconds: true}
}

func bucketsInt(slots []uint64, sum uint64) Buckets {
	return Buckets{First: histFirstInt, Zero: slots[0], Counts: slots[1:], Sum: sum}
}
