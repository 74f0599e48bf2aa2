package bpf

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// BenchmarkLook measures what a look at a busy processor costs: the time that the
// kernel says the program ran, per run. docs/performance.md has the result.
func BenchmarkLook(b *testing.B) {
	k, err := Load(Options{RingBytes: 1 << 20, cache: kernelTypes})
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	for range 2 {
		startAct(b, "spin", "")
	}
	for b.Loop() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := k.RecordStacks(b.Context(), 2*time.Second, StackOptions{Hz: MaxHz}, func(AddressSpace, event.Process) {}); err != nil {
				b.Error(err)
			}
		}()
		var runs, seconds float64
		for running := true; running; {
			select {
			case <-done:
				running = false
			case <-time.After(100 * time.Millisecond):
			}
			programs, err := k.Programs()
			if err != nil {
				b.Fatal(err)
			}
			for _, p := range programs {
				if p.Program == "profile_on_cpu" {
					runs, seconds = float64(p.Runs), p.Run
				}
			}
		}
		b.ReportMetric(seconds*1e9/runs, "ns/look")
		b.ReportMetric(runs, "looks")
	}
}

// BenchmarkSlowdown measures what a program loses while the node is profiled: the
// processor's time for the same work, without a profile and with one, in turns. The best
// of all rounds counts: looks are in every one, what else the machine does is not. The
// result is in docs/profiles.md.
func BenchmarkSlowdown(b *testing.B) {
	k, err := Load(Options{RingBytes: 1 << 20, cache: kernelTypes})
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	best := map[int]float64{}
	for b.Loop() {
		for _, hz := range []int{0, DefaultHz, MaxHz} {
			stop := profileInBackground(b, k, hz)
			runtime.GC() // not beside the work
			if took := workTime(b); best[hz] == 0 || took < best[hz] {
				best[hz] = took
			}
			stop()
		}
	}
	for _, hz := range []int{DefaultHz, MaxHz} {
		b.ReportMetric(100*(best[hz]/best[0]-1), fmt.Sprintf("%%slower@%dHz", hz))
	}
}

// profileInBackground records stacks until stop is called; not at all with 0 Hz.
func profileInBackground(b *testing.B, k *Kernel, hz int) (stop func()) {
	if hz == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := k.RecordStacks(ctx, time.Hour, StackOptions{Hz: hz}, func(AddressSpace, event.Process) {})
		ended <- err
	}()
	eventually(b, "a profile", func() bool {
		maps, err := k.Maps()
		return err == nil && slices.ContainsFunc(maps, func(m MapStat) bool { return m.Map == "profile_samples" && m.Entries != nil && *m.Entries > 0 })
	})
	return func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			b.Error(err)
		}
	}
}

var worked uint64 // so that the work is done

// workTime returns the processor's time for a fixed amount of work, in seconds.
func workTime(b *testing.B) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			b.Fatal(err)
		}
		return ts.Nano()
	}
	began := now()
	for i := range uint64(200_000_000) {
		worked += i * i
	}
	return float64(now()-began) / 1e9
}
