package bpf

import "time"

// wakeups decides how the kernel wakes the reader. While events are rare each
// one wakes it at once. When wake-ups become frequent the kernel is told to stay
// silent until a good part of the ring is filled, and the reader looks by itself
// every few milliseconds: an event then waits pollBusy at most, and a million
// events a second cost two hundred wake-ups instead of a million.
type wakeups struct {
	set       func(bytes uint64) error
	threshold uint64
	busy      bool
	since     time.Time // start of the current window
	wakes     int
	records   int
}

const (
	wakeWindow  = 100 * time.Millisecond
	busyWakes   = 100 // wake-ups in a window from which batching pays
	calmRecords = 50  // records in a window below which it no longer does
	pollBusy    = 5 * time.Millisecond
	// pollCalm covers a record that was submitted silently while the mode
	// changed: the kernel's own rule wakes only a reader that had caught up.
	pollCalm = time.Second
	// maxWakeupBytes bounds how much may wait for the poll.
	maxWakeupBytes = 256 << 10
)

func newWakeups(ringBytes int, set func(bytes uint64) error) wakeups {
	return wakeups{set: set, threshold: uint64(min(ringBytes/8, maxWakeupBytes))}
}

// drained notes one wake-up that brought records and returns how long the reader
// may wait for the next.
func (w *wakeups) drained(now time.Time, records int) time.Duration {
	w.wakes++
	w.records += records
	if now.Sub(w.since) >= wakeWindow {
		w.judge()
		w.since, w.wakes, w.records = now, 0, 0
	}
	if w.busy || w.records > 0 {
		return pollBusy
	}
	return pollCalm
}

// judge changes the mode. A failed write leaves the kernel in the old mode, in
// which nothing is lost either.
func (w *wakeups) judge() {
	switch {
	case !w.busy && w.wakes > busyWakes:
		w.busy = w.set(w.threshold) == nil
	case w.busy && w.records < calmRecords:
		w.busy = w.set(0) != nil
	}
}
