package bpf

import (
	"os"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
)

func TestProcessSurveyListsWhoIsAlive(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	p, err := NewProcesses(k, ProcessesOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]uint64{}
	err = p.Survey(func(who *event.Process) {
		if seen[who.PID] != 0 {
			t.Errorf("process %d came twice", who.PID)
		}
		seen[who.PID] = who.StartNS
	})
	if err != nil {
		t.Fatal(err)
	}
	self := k.Self().PID
	if int(self) == os.Getpid() && seen[self] == 0 {
		t.Errorf("the test itself, %d, is not among %d processes", self, len(seen))
	}
}
