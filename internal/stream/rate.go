package stream

import "time"

// rate bounds how many events a sink gets in a minute.
type rate struct {
	limit  uint64 // per minute; 0 for no limit
	minute time.Time
	passed uint64
}

// turn begins a new minute where one is over.
func (r *rate) turn(now time.Time) {
	if now.Sub(r.minute) >= time.Minute {
		r.minute, r.passed = now, 0
	}
}

// allow counts one event and reports whether it may pass.
func (r *rate) allow() bool {
	if r.limit == 0 {
		return true
	}
	if r.passed >= r.limit {
		return false
	}
	r.passed++
	return true
}
