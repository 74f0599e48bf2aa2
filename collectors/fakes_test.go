package collectors_test

import (
	"errors"
	"log/slog"
	"time"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/digest"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/profile"
	"github.com/sonde-ebpf/sonde/internal/shed"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// attached is when the fake probes were attached.
var attached = time.Unix(1_700_000_000, 0)

var errFake = errors.New("read counts: no such device")

// fake is a source that returns a fixed value and error. Each of the types below
// gives it the method that one collector wants.
type fake[T any] struct {
	value T
	err   error
}

func (f fake[T]) Read() (T, error) { return f.value, f.err }

type fakeLedger fake[[]bpf.LedgerStat]

func (f fakeLedger) Ledger() ([]bpf.LedgerStat, error) { return f.value, f.err }

// fakeBox knows how earlier runs ended.
type fakeBox blackbox.Totals

func (f fakeBox) Totals() blackbox.Totals { return blackbox.Totals(f) }

type fakeProfiles []profile.NodeStats

func (f fakeProfiles) Stats() []profile.NodeStats { return f }

// fakeShed sheds load.
type fakeShed struct {
	level       int
	transitions [shed.Levels]uint64
}

func (f fakeShed) Level() int                       { return f.level }
func (f fakeShed) Transitions() [shed.Levels]uint64 { return f.transitions }

type fakeReader bpf.EventStats

func (f fakeReader) Stats() bpf.EventStats { return bpf.EventStats(f) }

type fakeSanitized event.Sanitized

func (f fakeSanitized) Sanitized() event.Sanitized { return event.Sanitized(f) }

type fakeDigests digest.Counts

func (f fakeDigests) Counts() digest.Counts { return digest.Counts(f) }

type fakeRings fake[[]bpf.RingStat]

func (f fakeRings) Rings() ([]bpf.RingStat, error) { return f.value, f.err }

// fakePipeline is what the sensor measures on itself; delay is every histogram.
type fakePipeline struct {
	delay        metric.Buckets
	events       [event.Points]uint64
	future, past uint64
	lost         uint64
}

func (f fakePipeline) Events() [event.Points]uint64             { return f.events }
func (f fakePipeline) RingDelay() metric.Buckets                { return f.delay }
func (f fakePipeline) ClockAnomalies() (future, distant uint64) { return f.future, f.past }
func (f fakePipeline) Canary() (metric.Buckets, uint64)         { return f.delay, f.lost }

func (f fakePipeline) DrainRecords(yield func(string, metric.Buckets)) {
	yield("events", metric.Buckets{Counts: []uint64{2, 0, 0, 0, 1}, Sum: 4, Created: attached})
}

func (f fakePipeline) Steps(yield func(event.Point, string, metric.Buckets)) {
	yield(event.ProcessExec, "decode", f.delay)
	yield(event.ProcessExec, "state", f.delay)
}

func (f fakePipeline) Operations(yield func(string, metric.Buckets)) {
	yield("scan_processes", f.delay)
}

type fakeProbes []bpf.ProbeStatus

func (f fakeProbes) Probes() []bpf.ProbeStatus { return f }

type fakePrograms fake[[]bpf.ProgramStat]

func (f fakePrograms) Programs() ([]bpf.ProgramStat, error) { return f.value, f.err }

type fakeMaps fake[[]bpf.MapStat]

func (f fakeMaps) Maps() ([]bpf.MapStat, error) { return f.value, f.err }

type fakeRunStats time.Duration

func (f fakeRunStats) Enabled() time.Duration { return time.Duration(f) }

// fakeFS is the sensor's own cgroup; err is the error of every reading.
type fakeFS struct {
	memory     procfs.Memory
	throttling procfs.Throttling
	pressure   []procfs.Pressure
	mapped     uint64
	err        error
}

func (f fakeFS) SelfMemory() (procfs.Memory, error)         { return f.memory, f.err }
func (f fakeFS) SelfThrottling() (procfs.Throttling, error) { return f.throttling, f.err }
func (f fakeFS) SelfPressure() ([]procfs.Pressure, error)   { return f.pressure, f.err }
func (f fakeFS) Mapped() (uint64, error)                    { return f.mapped, f.err }

type fakeStart []collectors.StartStep

func (f fakeStart) StartSteps() []collectors.StartStep { return f }

// fakeConfig is a configuration that was changed twice and then refused.
type fakeConfig struct{}

func (fakeConfig) Reloaded() (uint64, time.Time, error) { return 3, attached, errors.New("line 3") }

type fakeLevels map[string]slog.Level

func (f fakeLevels) Targets() map[string]slog.Level { return f }

// fakeWorkloads are cgroup 7, a container, and others, of the host.
type fakeWorkloads fake[[]bpf.WorkloadStat]

func (f fakeWorkloads) Read(yield func(bpf.WorkloadStat)) error {
	for _, s := range f.value {
		yield(s)
	}
	return f.err
}

func (f fakeWorkloads) Forget(bpf.WorkloadKey) error { return f.err }

func (f fakeWorkloads) Reside(v2, _ uint64) container.Residence {
	if v2 != 7 {
		return container.Residence{Place: container.Host}
	}
	return container.Residence{Place: container.Inside, ID: container.ID{Name: "7"}}
}

func (f fakeWorkloads) Lookup(container.ID) (container.Meta, container.State) {
	return container.Meta{Runtime: container.Containerd, Namespace: "shop", Pod: "web-0", Name: "nginx"}, container.Named
}

// nanoseconds is a histogram of calls that took 1 µs to 16 ms.
func nanoseconds() bpf.Buckets {
	return bpf.Buckets{
		First: -79, Counts: []uint64{5, 0, 3, 1, 0, 0, 0, 0, 2, 53: 1},
		Sum: 16_012_345, Nanoseconds: true,
	}
}

func integers() bpf.Buckets {
	return bpf.Buckets{First: 0, Zero: 1, Counts: []uint64{4, 0, 0, 0, 3, 0, 2}, Sum: 16}
}

// fakeSessions is what the sessions of a sensor tell of themselves.
type fakeSessions struct {
	delay    metric.Buckets
	lost     [event.Points][event.Losses]uint64
	sessions []stream.SessionStat
}

func (f fakeSessions) Lost() [event.Points][event.Losses]uint64 { return f.lost }
func (f fakeSessions) SinkDelay() metric.Buckets                { return f.delay }
func (f fakeSessions) Sessions() []stream.SessionStat           { return f.sessions }

func (f fakeSessions) Steps(yield func(event.Point, string, metric.Buckets)) {
	yield(event.ProcessExec, "match", f.delay)
	yield(event.ProcessExec, "sink", f.delay)
}

func busySessions(delay metric.Buckets) fakeSessions {
	s := fakeSessions{delay: delay}
	s.lost[event.NetworkConnect][event.LossShed] = 4
	sink := stream.SinkStat{
		Session: "default", Sink: "jsonl", Matched: 20, Delivered: 12, Queued: 1, Capacity: stream.DefaultQueue.Events,
		Up: true, LastSuccess: attached.Add(time.Minute),
	}
	sink.Dropped[event.LossShed], sink.Dropped[event.LossDisk], sink.Errors[event.LossDisk] = 4, 3, 1
	s.sessions = []stream.SessionStat{{Name: "default", Created: attached, Sinks: []stream.SinkStat{sink}}}
	return s
}
