package bpf

import (
	"errors"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// The last scrape comes after the end of counting: everything stays readable.
func TestCountsStayReadableAfterDetach(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	s := newSyscalls(t, k, SyscallsOptions{})
	tcp, err := NewTCP(k, TCPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	udp, err := NewUDP(k, UDPOptions{CgroupPath: testenv.CgroupV2()})
	if err != nil {
		t.Fatal(err)
	}
	k.Detach()
	_, tcpErr := tcp.Read()
	_, udpErr := udp.Read()
	_, syscallErr := s.Read()
	if err := errors.Join(tcpErr, udpErr, syscallErr); err != nil {
		t.Error(err)
	}
}

// A refused probe is nil and leaves nothing loaded.
func TestRefusedProbeLeavesNothing(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	before, err := k.Maps()
	if err != nil {
		t.Fatal(err)
	}
	udp, err := NewUDP(k, UDPOptions{CgroupPath: t.TempDir()})
	if err == nil || udp != nil {
		t.Fatalf("a directory that is no cgroup: %v, %v", udp, err)
	}
	after, err := k.Maps()
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) {
		t.Errorf("%d maps before, %d after a refused probe", len(before), len(after))
	}
}

// The sensor is enlisted however often it was started on the same pins.
func TestOOMEnlistsEveryGeneration(t *testing.T) {
	dir := privatePins(t)
	generations := 20
	if testing.Short() {
		generations = 4
	}
	for generation := range generations {
		k := newKernel(t, Options{RingBytes: 1 << 20})
		o := newPinnedOOM(t, k, dir)
		var id oomIdentity
		var run oomRun
		enlisted := 0
		for entries := o.obj.coll.Maps["sensors"].Iterate(); entries.Next(&id, &run); {
			enlisted++
			if id.Pid != k.Self().PID {
				t.Errorf("generation %d: process %d is enlisted", generation, id.Pid)
			}
		}
		if enlisted != 1 {
			t.Fatalf("generation %d: %d enlisted, want 1", generation, enlisted)
		}
		k.Close()
	}
}
