package stream

import (
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// BenchmarkPublish passes events of about 250 bytes on to a sink that does nothing,
// and waits for it at every half of a queue, so that none is dropped.
func BenchmarkPublish(b *testing.B) {
	f := newFixture(b)
	f.sinks["null"] = nothing{}
	f.create(b, "a", "null")
	var (
		editor event.Editor
		ev     = event.Event{Point: event.ProcessExec}
		queue  = f.table.Load().want[event.ProcessExec][0].feeds[0].in
	)
	editor.Set(&ev, event.TextPath, []byte("/usr/bin/flooder"), false)
	editor.Set(&ev, event.TextArgs, []byte("flooder\x00--with\x00some\x00arguments\x00x"), false)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f.Publish(&ev)
		if i%(queueEvents/2) == 0 {
			waitFor(b, func() bool { return queue.len() == 0 })
		}
	}
}
