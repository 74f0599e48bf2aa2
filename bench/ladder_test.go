// Package bench measures what the probes cost: each rung of a ladder adds one
// thing, all rungs run interleaved in one process, and every number is the
// median over rounds, so that a busy machine slows all rungs alike.
package bench

import (
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bench/agent"
	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

//go:generate go tool bpf2go -cc clang-16 -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -Wall -Werror" ladder ladder.bpf.c -- -I../bpf/headers

// rounds is the number of interleaved rounds whose median counts.
const rounds = 11

// rung is one configuration: attach returns what undoes it.
type rung struct {
	name   string
	attach func() (func(), error)
}

// programs attaches programs of the ladder object, in their order.
func programs(coll *ebpf.Collection, names ...string) func() (func(), error) {
	return func() (func(), error) {
		var links []link.Link
		undo := func() {
			for _, l := range links {
				l.Close()
			}
		}
		for _, name := range names {
			l, err := link.AttachTracing(link.TracingOptions{Program: coll.Programs[name]})
			if err != nil {
				undo()
				return nil, fmt.Errorf("attach %s: %w", name, err)
			}
			links = append(links, l)
		}
		return undo, nil
	}
}

// probes loads probes of the sensor, with no event wanted.
func probes(load ...func(*bpf.Kernel) error) func() (func(), error) {
	return func() (func(), error) {
		k, err := bpf.Load(bpf.Options{})
		if err != nil {
			return nil, err
		}
		for _, one := range load {
			if err := one(k); err != nil {
				k.Close()
				return nil, err
			}
		}
		return k.Close, nil
	}
}

// bare is nothing.
var bare = rung{"bare", func() (func(), error) { return func() {}, nil }}

// probe is the probe that follows an operation, alone.
func probe(o operation) rung { return rung{"probe", probes(o.probe)} }

// ladder is what an operation is measured with.
func (o operation) ladder(coll *ebpf.Collection) []rung {
	rungs := []rung{
		bare, probe(o),
		{"all", probes(syscallsProbe, processProbe, tcpProbe, udpProbe, dropsProbe)},
		{"hash", programs(coll, "hash_exit", "hash_enter")},
	}
	if len(o.empty) > 0 {
		rungs = append(rungs, rung{"empty", programs(coll, o.empty...)})
	}
	return rungs
}

// sensor is a whole sensor, as it runs by default, in a process of its own.
func sensor(tb testing.TB) rung {
	binary := filepath.Join(tb.TempDir(), "sonde")
	cmd := exec.Command("go", "build", "-o", binary, "../cmd/sonde")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build sonde: %v\n%s", err, out)
	}
	return rung{"sensor", func() (func(), error) {
		a, err := agent.Start(tb.Context(), []string{binary})
		if err != nil {
			return nil, err
		}
		// For a second after its start, and a tenth of its life, it has the kernel time each
		// run of each program, which adds to what is measured.
		time.Sleep(bpf.StatsOn)
		return func() {
			if err := a.Stop(); err != nil {
				tb.Error(err)
			}
		}, nil
	}}
}

// loadRungs loads the ladder object, until the test ends.
func loadRungs(tb testing.TB) *ebpf.Collection {
	tb.Helper()
	testenv.Root(tb)
	spec, err := loadLadder()
	if err != nil {
		tb.Fatal(err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(coll.Close)
	return coll
}

// chunks is in how many parts a sample is measured; the quickest part is the
// sample, the one that interrupts and neighbours disturbed least.
const chunks = 10

// clock tells a time that passes: threadTime or wallTime.
type clock func(testing.TB) time.Duration

// nsPerCall times calls of op on this thread.
func nsPerCall(tb testing.TB, time clock, calls int, op func()) float64 {
	tb.Helper()
	best := math.Inf(1)
	for range chunks {
		start := time(tb)
		for range calls / chunks {
			op()
		}
		best = min(best, float64(time(tb)-start)/float64(calls/chunks))
	}
	return best
}

var began = time.Now()

// wallTime is what a user waits, also while others use the processor.
func wallTime(testing.TB) time.Duration { return time.Since(began) }

// threadTime is for how long this thread has run, and the children that it has waited for.
func threadTime(tb testing.TB) time.Duration { return ranFor(tb, unix.CLOCK_THREAD_CPUTIME_ID) }

// ranFor reads a clock of processor time.
func ranFor(tb testing.TB, clock int32) time.Duration {
	tb.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		tb.Fatal(err)
	}
	var children unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &children); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(ts.Nano() + children.Utime.Nano() + children.Stime.Nano())
}

// climb runs all rungs interleaved and returns ns per operation by rung and round.
func climb(tb testing.TB, time clock, rungs []rung, calls int, op func()) map[string][]float64 {
	tb.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	samples := map[string][]float64{}
	for range rounds {
		for _, r := range rungs {
			undo, err := r.attach()
			if err != nil {
				tb.Fatalf("%s: %v", r.name, err)
			}
			nsPerCall(tb, time, calls/10, op)
			samples[r.name] = append(samples[r.name], nsPerCall(tb, time, calls, op))
			undo()
		}
	}
	return samples
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// added is the median over rounds of what a rung adds to the bare operation of
// the same round.
func added(samples map[string][]float64, name string) float64 {
	var d []float64
	for i, v := range samples[name] {
		d = append(d, v-samples["bare"][i])
	}
	return median(d)
}

// TestSyscallLadder holds the hot path to its bar: the added cost of a timed
// getppid is at most 2.1 times that of an empty pair and 0.65 times that of the
// hash design.
func TestSyscallLadder(t *testing.T) {
	coll, o := loadRungs(t), operations["syscall"]
	rungs := slices.DeleteFunc(o.ladder(coll), func(r rung) bool { return r.name == "all" })
	rungs = append(rungs, rung{"storage", programs(coll, "storage_exit", "storage_enter")})
	calls := o.calls
	if n, err := strconv.Atoi(os.Getenv("SONDE_BENCH_CALLS")); err == nil {
		calls = n
	}
	samples := climb(t, threadTime, rungs, calls, o.prepare(t))
	floor := added(samples, "empty")
	for _, r := range rungs {
		a := added(samples, r.name)
		t.Logf("%-8s %6.1f ns/call, adds %6.1f ns, %.2f x empty", r.name, median(samples[r.name]), a, a/floor)
	}
	if ratio := added(samples, "probe") / floor; ratio > 2.1 {
		t.Errorf("a timed call adds %.2f times an empty pair, more than 2.1", ratio)
	}
	if ratio := added(samples, "probe") / added(samples, "hash"); ratio > 0.65 {
		t.Errorf("a timed call adds %.2f times the hash design, more than 0.65", ratio)
	}
}

// What a probe alone, and a whole sensor, may add to an operation, as a share of it.
var (
	probeBars  = map[string]float64{"exec": 0.02, "tcp": 0.08}
	sensorBars = map[string]float64{"exec": 0.12, "tcp": 0.18}
)

// Where others use the machine too, twice that is allowed.
func TestProbeLadder(t *testing.T) {
	for name, bar := range probeBars {
		t.Run(name, func(t *testing.T) { holdTo(t, 2*bar, threadTime, operations[name], probe(operations[name])) })
	}
}

// TestSoakLadder wants the machine for itself.
func TestSoakLadder(t *testing.T) {
	if os.Getenv("SONDE_SOAK") == "" {
		t.Skip("wants the whole machine: make soak")
	}
	for name, bar := range probeBars {
		t.Run("probe/"+name, func(t *testing.T) { holdTo(t, bar, threadTime, operations[name], probe(operations[name])) })
	}
	whole := sensor(t)
	for name, bar := range sensorBars {
		t.Run("sensor/"+name, func(t *testing.T) { holdTo(t, bar, wallTime, operations[name], whole) })
	}
}

// holdTo measures an operation with and without a rung.
func holdTo(t *testing.T, bar float64, time clock, o operation, with rung) {
	testenv.Root(t)
	samples := climb(t, time, []rung{bare, with}, o.calls, o.prepare(t))
	without, more := median(samples[bare.name]), added(samples, with.name)
	t.Logf("%.0f ns, the %s adds %.0f ns, %.1f %%", without, with.name, more, 100*more/without)
	if more > bar*without {
		t.Errorf("the %s adds %.1f %%, more than %.0f %%", with.name, 100*more/without, 100*bar)
	}
}

// BenchmarkLadder is every rung under every operation, one value each. Whoever compares
// runs it again and again, so that what the machine does meanwhile meets all rungs.
func BenchmarkLadder(b *testing.B) {
	coll, whole := loadRungs(b), sensor(b)
	for _, name := range slices.Sorted(maps.Keys(operations)) {
		o := operations[name]
		for _, r := range append(o.ladder(coll), whole) {
			b.Run(name+"/"+r.name, func(b *testing.B) {
				op := o.prepare(b)
				undo, err := r.attach()
				if err != nil {
					b.Fatalf("%s: %v", r.name, err)
				}
				defer undo()
				for b.Loop() {
					op()
				}
			})
		}
	}
}
