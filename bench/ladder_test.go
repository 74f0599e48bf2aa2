// Package bench measures what the probes cost: each rung of a ladder adds one
// thing, all rungs run interleaved in one process, and every number is the
// median over rounds, so that a busy machine slows all rungs alike.
package bench

import (
	"fmt"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

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

// ladder is what an operation is measured with.
func (o operation) ladder(coll *ebpf.Collection) []rung {
	rungs := []rung{
		{"bare", func() (func(), error) { return func() {}, nil }},
		{"probe", probes(o.probe)},
		{"all", probes(syscallsProbe, processProbe, tcpProbe, udpProbe, dropsProbe)},
		{"hash", programs(coll, "hash_exit", "hash_enter")},
	}
	if len(o.empty) > 0 {
		rungs = append(rungs, rung{"empty", programs(coll, o.empty...)})
	}
	return rungs
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

// nsPerCall times calls of op on this thread, by the time that the thread ran.
func nsPerCall(tb testing.TB, calls int, op func()) float64 {
	tb.Helper()
	best := math.Inf(1)
	for range chunks {
		start := threadTime(tb)
		for range calls / chunks {
			op()
		}
		best = min(best, float64(threadTime(tb)-start)/float64(calls/chunks))
	}
	return best
}

// threadTime is for how long this thread has run, and the children that it has waited for.
func threadTime(tb testing.TB) time.Duration {
	tb.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		tb.Fatal(err)
	}
	var children unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &children); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(ts.Nano() + children.Utime.Nano() + children.Stime.Nano())
}

// climb runs all rungs interleaved and returns ns per operation by rung and round.
func climb(tb testing.TB, rungs []rung, calls int, op func()) map[string][]float64 {
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
			nsPerCall(tb, calls/10, op)
			samples[r.name] = append(samples[r.name], nsPerCall(tb, calls, op))
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
	samples := climb(t, rungs, calls, o.prepare(t))
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

// probeBars are what a probe alone may add to the operation that it follows, as a share
// of it.
var probeBars = map[string]float64{"exec": 0.02, "tcp": 0.08}

// Where others use the machine too, twice that is allowed.
func TestProbeLadder(t *testing.T) { probeLadder(t, 2) }

func TestSoakProbeLadder(t *testing.T) {
	if os.Getenv("SONDE_SOAK") == "" {
		t.Skip("wants the whole machine: make soak")
	}
	probeLadder(t, 1)
}

func probeLadder(t *testing.T, slack float64) {
	coll := loadRungs(t)
	for name, bar := range probeBars {
		t.Run(name, func(t *testing.T) {
			o := operations[name]
			rungs := slices.DeleteFunc(o.ladder(coll), func(r rung) bool { return r.name != "bare" && r.name != "probe" })
			samples := climb(t, rungs, o.calls, o.prepare(t))
			bare, more := median(samples["bare"]), added(samples, "probe")
			t.Logf("%.0f ns, the probe adds %.0f ns, %.1f %%", bare, more, 100*more/bare)
			if more > slack*bar*bare {
				t.Errorf("the probe adds %.1f %%, more than %.0f %%", 100*more/bare, 100*slack*bar)
			}
		})
	}
}

// BenchmarkLadder is every rung under every operation, one value each. Whoever compares
// runs it again and again, so that what the machine does meanwhile meets all rungs.
func BenchmarkLadder(b *testing.B) {
	coll := loadRungs(b)
	for _, name := range slices.Sorted(maps.Keys(operations)) {
		o := operations[name]
		for _, r := range o.ladder(coll) {
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
