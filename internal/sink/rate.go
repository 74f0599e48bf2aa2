package sink

import "time"

// rate bounds how many lines are written in a minute, and tells in the stream itself
// how many were held back.
type rate struct {
	limit  uint64 // lines per minute; 0 for no limit
	minute time.Time
	lines  uint64
	held   uint64
}

// allow counts one event and reports whether it may be written.
func (r *rate) allow() bool {
	if r.limit == 0 {
		return true
	}
	if r.lines >= r.limit {
		r.held++
		return false
	}
	r.lines++
	return true
}

// turn begins a new minute where one is over, and returns how many events were held
// back in the old one.
func (r *rate) turn(now time.Time) (held uint64) {
	if r.limit == 0 || now.Sub(r.minute) < time.Minute {
		return 0
	}
	held = r.held
	r.minute, r.lines, r.held = now, 0, 0
	return held
}

// heldBack writes the line that tells of events that were held back, or lost before.
func (t *lines) heldBack(n uint64, now time.Time) {
	j := &t.json
	j.next = false
	j.open('{')
	j.object("rate_limit_info")
	j.uint64("number_of_dropped_process_events", n)
	j.close('}')
	j.string("node_name", t.machine.Node())
	j.time("time", now)
	j.close('}')
	j.b = append(j.b, '\n')
}
