package collectors_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/collectors"
)

// manySyscalls is a source of n histograms, each with a bucket used in every octave
// from 1 µs to 1 s.
func manySyscalls(n int) fake[bpf.SyscallStats] {
	var f fake[bpf.SyscallStats]
	for i := range n {
		b := &bpf.Buckets{First: -119, Counts: make([]uint64, 209), Nanoseconds: true}
		for k := 40; k < 120; k += 4 {
			b.Counts[k] = uint64(i + k)
		}
		outcome := [2]string{"success", "error"}[i%2]
		f.value.Calls = append(f.value.Calls, bpf.SyscallStat{Syscall: fmt.Sprintf("call%d", i/2), Outcome: outcome, Count: b.Count(), Duration: b})
	}
	return f
}

// BenchmarkSyscalls is the collector with the most samples, with as many histograms
// as the probe has room for.
func BenchmarkSyscalls(b *testing.B) {
	c := collectors.NewSyscalls(manySyscalls(180), attached, collectors.Limits{Series: 1000, Idle: time.Hour})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Collect(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEverything is all collectors of a sensor that has much to show.
func BenchmarkEverything(b *testing.B) {
	s := busy()
	s.syscalls = manySyscalls(180)
	all := s.collectors()
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range all {
			if _, err := c.Collect(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestSyscallsAllocations: two for a histogram (the sample and its buckets), one for
// a counter, and the slices.
func TestSyscallsAllocations(t *testing.T) {
	const histograms = 180
	c := collectors.NewSyscalls(manySyscalls(histograms), attached, collectors.Limits{Series: 1000, Idle: time.Hour})
	got := testing.AllocsPerRun(20, func() {
		if _, err := c.Collect(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if want := 3*histograms + 10; got > float64(want) {
		t.Errorf("%v allocations for %d histograms, want at most %d", got, histograms, want)
	}
}
