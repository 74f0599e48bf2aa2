package bpf

import (
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
