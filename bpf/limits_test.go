package bpf

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Of a limited point nothing is attempted for processes that nobody wants.
func TestLimitsAreKeptInTheKernel(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	_, err := NewSyscalls(k, SyscallsOptions{})
	must(t, "load syscalls", err)
	acts := newActs(t, k)
	must(t, "want acts", acts.Want([]event.Point{event.ProcessSetns}))
	// told returns which of the attempts are told; an attempt is known by its type.
	told := func(limits ...event.Limit) (attempts []uint32, cgroup uint64) {
		all := recordEvents(t, k, func() {
			must(t, "set points", k.SetPoints(event.ProcessSetns))
			for i, l := range limits {
				must(t, "limit", k.SetLimits(map[event.Point]event.Limit{event.ProcessSetns: l}))
				if err := unix.Setns(-1, i); err == nil {
					t.Fatal("no namespace was joined")
				}
			}
			must(t, "limit nothing", k.SetLimits(nil))
			if err := unix.Setns(-1, len(limits)); err == nil {
				t.Fatal("no namespace was joined")
			}
		})
		for i := range all {
			attempts, cgroup = append(attempts, all[i].Setns.Types), all[i].Process.CgroupID
		}
		return attempts, cgroup
	}
	self, uid := k.Self().PID, uint32(os.Getuid())
	_, cgroup := told()
	got, _ := told(
		event.Limit{PIDs: []uint32{self + 1}, UIDs: []uint32{uid + 1}, Cgroups: []uint64{cgroup + 1}},
		event.Limit{PIDs: []uint32{self}, UIDs: []uint32{uid + 1}},
		event.Limit{PIDs: []uint32{self + 1}, UIDs: []uint32{uid}},
		event.Limit{Cgroups: []uint64{cgroup + 1}},
		event.Limit{Cgroups: []uint64{cgroup}},
		event.Limit{PIDs: make([]uint32, MaxLimits)},
		event.Limit{PIDs: make([]uint32, MaxLimits+1)}, // too many: it is not limited
	)
	if want := "[1 2 4 6 7]"; fmt.Sprint(got) != want {
		t.Errorf("attempts %v were told, want %s", got, want)
	}
}
