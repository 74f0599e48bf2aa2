package bpf

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// BootClock tells the time of CLOCK_BOOTTIME, the clock of events, without a
// system call per reading: it adds Go's monotonic clock to a base that is taken
// anew every second, because only suspension moves the two apart. Not for
// concurrent use.
type BootClock struct {
	base   time.Time
	baseNS uint64
}

// Now returns nanoseconds of CLOCK_BOOTTIME.
func (c *BootClock) Now() uint64 {
	since := time.Since(c.base)
	if c.baseNS != 0 && since < time.Second {
		return c.baseNS + uint64(since)
	}
	now, err := bootTime()
	if err != nil { // the clock exists since 2.6.39; without it the old base serves on
		return c.baseNS + uint64(since)
	}
	c.base, c.baseNS = time.Now(), now
	return now
}

// bootTime reads CLOCK_BOOTTIME in nanoseconds.
func bootTime() (uint64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read boot clock: %w", err)
	}
	return uint64(ts.Nano()), nil
}
