package bpf

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// mapStats returns what Maps says, by name.
func mapStats(t *testing.T, k *Kernel) map[string]MapStat {
	t.Helper()
	list, err := k.Maps()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]MapStat{}
	for _, s := range list {
		if _, twice := byName[s.Map]; twice {
			t.Errorf("map %s is described twice", s.Map)
		}
		byName[s.Map] = s
	}
	return byName
}

func TestMaps(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		p := newProcesses(t, k, ProcessesOptions{Max: 4096})
		got := mapStats(t, k)
		for _, name := range []string{"kernel_events", "kernel_ledger", "process_alive", "process_counts"} {
			if s := got[name]; s.MaxEntries == 0 || s.MemoryBytes == 0 {
				t.Errorf("map %s: %+v", name, s)
			}
		}
		for name := range maps.Keys(got) {
			if strings.HasPrefix(name, "process_") && (strings.HasSuffix(name, "_events") || strings.HasSuffix(name, "_ledger")) {
				t.Errorf("shared map %s is counted again", name)
			}
		}
		alive := got["process_alive"]
		if alive.MaxEntries != 4096 || alive.MemoryBytes < 4096*64 || alive.UpdateFailures != 0 {
			t.Errorf("map of 4096 processes: %+v", alive)
		}
		if got["kernel_events"].Entries != nil || got["process_counts"].Entries != nil {
			t.Error("a ring or an array has a number of entries")
		}
		k.Detach() // so that nobody enters or leaves
		checkEntries(t, k, p.obj.coll.Maps["alive"])
	})
}

// Maps take what their layouts say, but for what does not grow with their entries.
func TestLayouts(t *testing.T) {
	if os.Getenv("SONDE_TEST_VM") != "" {
		t.Skip("loads every probe anew, ten seconds there; the host's run compares the layouts")
	}
	k := newKernel(t, Options{RingBytes: 1 << 20})
	newProcesses(t, k, ProcessesOptions{Max: 4096})
	_, err := NewSyscalls(k, SyscallsOptions{ThreadSlots: 4096})
	must(t, "new syscalls probe", err)
	_, err = NewUDP(k, UDPOptions{CgroupPath: testenv.CgroupV2(), MaxFlows: 4096, MaxSockets: 4096})
	must(t, "new udp probe", err)
	_, err = NewTCP(k, TCPOptions{MaxSockets: 4096})
	must(t, "new tcp probe", err)
	checkLayouts(t, k, false)

	k = newKernel(t, Options{RingBytes: 1 << 20, Controller: "memory", Workloads: &WorkloadOptions{}})
	_, err = NewTCP(k, TCPOptions{MaxSockets: 4096})
	must(t, "new tcp probe", err)
	checkLayouts(t, k, true, "tcp_sockets")
}

// checkLayouts compares the layouts of some maps, by default all, with what they take.
func checkLayouts(t *testing.T, k *Kernel, cgroupV1 bool, names ...string) {
	t.Helper()
	const fixed = 64 << 10
	layouts, err := Layouts(cgroupV1)
	must(t, "read layouts", err)
	stats := mapStats(t, k)
	if names == nil {
		names = slices.Collect(maps.Keys(layouts))
	}
	for _, name := range names {
		s, want := stats[name], layouts[name].Bytes(stats[name].MaxEntries)
		if want == 0 || s.MemoryBytes < want || s.MemoryBytes > want+fixed {
			t.Errorf("map %s with %d entries takes %d bytes, its layout says %d", name, s.MaxEntries, s.MemoryBytes, want)
		}
	}
}

// checkEntries compares the kernel's number with a walk over the map.
func checkEntries(t *testing.T, k *Kernel, alive *ebpf.Map) {
	t.Helper()
	if k.fillCounter == nil {
		if mayCountFills(t, k) {
			t.Fatal("the kernel counts entries, but the iterator was not loaded")
		}
		testenv.Skip(t, "needs bpf_map_sum_elem_count")
	}
	var pid uint32
	var execNS, walked uint64
	for it := alive.Iterate(); it.Next(&pid, &execNS); {
		walked++
	}
	if got := mapStats(t, k)["process_alive"].Entries; got == nil || *got != walked || walked == 0 {
		t.Errorf("entries: %v, walked over %d", got, walked)
	}
}

func mayCountFills(t *testing.T, k *Kernel) bool {
	t.Helper()
	types, err := k.kernelTypes()
	if err != nil {
		t.Fatal(err)
	}
	_, err = types.AnyTypeByName("bpf_map_sum_elem_count")
	return err == nil
}

// A map that was too small says how often.
func TestMapUpdateFailures(t *testing.T) {
	k := newKernel(t, Options{})
	newProcesses(t, k, ProcessesOptions{Max: 2})
	for range 3 {
		runAct(t, "exit", "0")
	}
	if s := mapStats(t, k)["process_alive"]; s.UpdateFailures < 3 {
		t.Errorf("map of 2 processes: %+v", s)
	}
}

// Run-time statistics count while they are on. That they stand still otherwise
// depends on nobody else having them on.
func TestProgramStatistics(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		newProcesses(t, k, ProcessesOptions{})
		const program = "process_sched_process_fork"
		runs := func() ProgramStat {
			t.Helper()
			list, err := k.Programs()
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				if s.Program == program {
					return s
				}
			}
			t.Fatalf("no program %s in %+v", program, list)
			return ProgramStat{}
		}
		sampler := &StatsSampler{on: time.Minute, every: time.Minute}
		if on, total := sampler.Sampled(); on != 0 || total != 0 {
			t.Errorf("before its first sample: on for %v of %v", on, total)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- sampler.Run(ctx) }()
		for sampler.Enabled() == 0 {
			time.Sleep(time.Millisecond)
		}
		before := runs()
		for range 5 {
			runAct(t, "exit", "0")
		}
		if s := runs(); s.Runs-before.Runs < 5 || s.Run <= before.Run {
			t.Errorf("five forks while on: %+v, before %+v", s, before)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		on, total := sampler.Sampled()
		if on <= 0 || total < on {
			t.Errorf("on for %v of %v s", on, total)
		}
		if later, _ := sampler.Sampled(); later != on {
			t.Errorf("on-time grew from %v to %v while off", on, later)
		}
	})
}
