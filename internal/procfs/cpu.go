package procfs

import (
	"fmt"
	"path/filepath"
	"time"
)

// Throttling is what the CPU controller says about a cgroup's quota. All three
// are monotonic since the cgroup was made.
type Throttling struct {
	Periods   uint64        // enforcement periods that have passed
	Throttled uint64        // periods in which the quota ran out
	Time      time.Duration // summed over CPUs
}

// SelfThrottling reads cpu.stat of the sensor's own cgroup. Without the CPU
// controller (the root cgroup has no quota) the error is ErrNoData.
func (f FS) SelfThrottling() (Throttling, error) {
	cg, err := f.SelfCgroup("cpu")
	if err != nil {
		return Throttling{}, err
	}
	path := filepath.Join(cg.Dir, "cpu.stat")
	counts, err := parsed(path, parseFlat)
	if err != nil {
		return Throttling{}, err
	}
	t, ok := throttling(counts)
	if !ok {
		return Throttling{}, fmt.Errorf("read throttling in %s: %w", path, ErrNoData)
	}
	return t, nil
}

// throttling picks the quota lines: v1 counts nanoseconds, v2 microseconds.
func throttling(counts []Count) (t Throttling, ok bool) {
	for _, n := range counts {
		switch n.Name {
		case "nr_periods":
			t.Periods, ok = n.Value, true
		case "nr_throttled":
			t.Throttled = n.Value
		case "throttled_time":
			t.Time = time.Duration(n.Value)
		case "throttled_usec":
			t.Time = time.Duration(n.Value) * time.Microsecond
		}
	}
	return t, ok
}
