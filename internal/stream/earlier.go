package stream

import (
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// tellEarlier begins to offer a new session the execs of processes that were there
// before the sensor, if it wants execs: to each sink as it has room, in its ledger like
// every other event.
func (m *Manager) tellEarlier(r *running) {
	var wants []want
	for i := range r.session.Points {
		if p := &r.session.Points[i]; p.Point == event.ProcessExec {
			wants = append(wants, want{fields: p.Fields, filter: &p.Filter})
		}
	}
	if len(wants) == 0 {
		return
	}
	for _, f := range r.feeds {
		f.earlier.Go(func() {
			m.o.Earlier(f.leaving, func(ev *event.Event) bool { return m.offerEarlier(f, wants, ev) })
		})
	}
}

// roomPause is the time between two looks whether a queue has room.
const roomPause = 10 * time.Millisecond

// offerEarlier waits until the queue of a feed is nearly empty, and offers it an event.
// It returns false once the feed is about to end.
func (m *Manager) offerEarlier(f *feed, wants []want, ev *event.Event) bool {
	for {
		m.publish.Lock()
		if roomy := f.in.roomy(); roomy {
			for i := range wants {
				if wants[i].filter.wants(ev, m.o.Below) {
					f.offer(ev, wants[i].fields)
				}
			}
			m.publish.Unlock()
			return true
		}
		m.publish.Unlock()
		select {
		case <-f.leaving:
			return false
		case <-time.After(roomPause):
		}
	}
}
