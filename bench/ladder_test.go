// Package bench measures what the probes cost: each rung of a ladder adds one
// thing, all rungs run interleaved in one process, and every number is the
// median over rounds, so that a busy machine slows all rungs alike.
package bench

import (
	"fmt"
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

// pair attaches one enter and exit program of the ladder object.
func pair(coll *ebpf.Collection, enter, exit string) func() (func(), error) {
	return func() (func(), error) {
		var links []link.Link
		undo := func() {
			for _, l := range links {
				l.Close()
			}
		}
		for _, name := range []string{exit, enter} {
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

func sonde() (func(), error) {
	k, err := bpf.Load(bpf.Options{})
	if err != nil {
		return nil, err
	}
	if _, err := bpf.NewSyscalls(k, bpf.SyscallsOptions{}); err != nil {
		k.Close()
		return nil, err
	}
	return k.Close, nil
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

func threadTime(tb testing.TB) time.Duration {
	tb.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(ts.Nano())
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
	testenv.Root(t)
	spec, err := loadLadder()
	if err != nil {
		t.Fatal(err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	rungs := []rung{
		{"bare", func() (func(), error) { return func() {}, nil }},
		{"empty", pair(coll, "empty_enter", "empty_exit")},
		{"sonde", sonde},
		{"storage", pair(coll, "storage_enter", "storage_exit")},
		{"hash", pair(coll, "hash_enter", "hash_exit")},
	}
	calls := 300_000
	if n, err := strconv.Atoi(os.Getenv("SONDE_BENCH_CALLS")); err == nil {
		calls = n
	}
	samples := climb(t, rungs, calls, func() { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) })
	floor := added(samples, "empty")
	for _, r := range rungs {
		a := added(samples, r.name)
		t.Logf("%-8s %6.1f ns/call, adds %6.1f ns, %.2f x empty", r.name, median(samples[r.name]), a, a/floor)
	}
	if ratio := added(samples, "sonde") / floor; ratio > 2.1 {
		t.Errorf("a timed call adds %.2f times an empty pair, more than 2.1", ratio)
	}
	if ratio := added(samples, "sonde") / added(samples, "hash"); ratio > 0.65 {
		t.Errorf("a timed call adds %.2f times the hash design, more than 0.65", ratio)
	}
}
