package bpf

import (
	"strconv"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// summable is what can be added up over CPUs.
type summable interface{ add() error }

// shards are counters of so many CPUs, as if the machine had them.
type shards[T any] struct {
	*counters[T]
	total T
}

func (s *shards[T]) add() error { return s.sum(&s.total) }

// newShards makes counters for cpus CPUs, and returns their bytes too.
func newShards[T any](b *testing.B, cpus int) (summable, uintptr) {
	b.Helper()
	var one T
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "counts", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(one)), MaxEntries: uint32(cpus), Flags: unix.BPF_F_MMAPABLE,
	})
	must(b, "make map", err)
	b.Cleanup(func() { m.Close() })
	c, err := openCounters[T](&object{coll: &ebpf.Collection{Maps: map[string]*ebpf.Map{"counts": m}}}, "counts")
	must(b, "map counts", err)
	return &shards[T]{counters: c}, unsafe.Sizeof(one) * uintptr(cpus)
}

// BenchmarkCPUs measures what grows with the number of CPUs: the memory of all probes'
// counters, and what it takes to add them up at a scrape, every histogram in use.
func BenchmarkCPUs(b *testing.B) {
	testenv.Root(b)
	for _, cpus := range []int{1, 4, 16, 64, 256} {
		b.Run(strconv.Itoa(cpus), func(b *testing.B) {
			var all []summable
			var bytes uintptr
			for _, make := range []func(*testing.B, int) (summable, uintptr){
				newShards[syscallsCpuCalls], newShards[processCpuProcesses], newShards[tcpCpuTcp], newShards[udpCpuUdp],
			} {
				s, n := make(b, cpus)
				all = append(all, s)
				bytes += n
			}
			for b.Loop() {
				for _, s := range all {
					must(b, "add up", s.add())
				}
			}
			b.ReportMetric(float64(bytes)/(1<<20), "MiB")
		})
	}
}
