package bpf

import (
	"errors"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// TestProbesOfThisKernel attaches every probe in both kinds. The kernel object
// must load; a probe that is refused must say why. What is absent where stands in
// docs/kernels.md.
func TestProbesOfThisKernel(t *testing.T) {
	for _, kind := range attachKinds {
		t.Run(kind, func(t *testing.T) {
			k := newKernel(t, Options{Attach: kind, RingBytes: 1 << 20})
			t.Logf("tracepoints preemptible: %v", k.preemptible)
			for _, probe := range []struct {
				name string
				load func() (ProbeStatus, error)
			}{
				{"syscalls", func() (ProbeStatus, error) { return status(NewSyscalls(k, SyscallsOptions{})) }},
				{"process", func() (ProbeStatus, error) { return status(NewProcesses(k, ProcessesOptions{})) }},
				{"tcp", func() (ProbeStatus, error) { return status(NewTCP(k, TCPOptions{})) }},
				{"udp", func() (ProbeStatus, error) { return status(NewUDP(k, UDPOptions{})) }},
				{"drops", func() (ProbeStatus, error) { return status(NewDrops(k)) }},
				{"oom", func() (ProbeStatus, error) { return status(NewOOM(k, OOMOptions{})) }},
			} {
				s, err := probe.load()
				switch {
				case err == nil && s.Attached:
					t.Logf("%-8s attached as %s %s", probe.name, s.Attach, s.Reason)
				case err != nil && err.Error() != "":
					t.Logf("%-8s absent: %v", probe.name, err)
				default:
					t.Errorf("%s: neither attached nor refused: %+v, %v", probe.name, s, err)
				}
				if errors.Is(err, ErrNoHooks) {
					t.Errorf("%s: refused for want of hooks, which only degrades", probe.name)
				}
			}
			for what, kind := range map[string]StackKind{"on_cpu": OnCPU, "drops": PacketDrops, "slow": SlowCalls} {
				_, err := k.RecordStacks(t.Context(), 10*time.Millisecond, StackOptions{Kind: kind}, func(AddressSpace, event.Process) {})
				t.Logf("stacks of %s: %v", what, err)
				if err != nil && err.Error() == "" {
					t.Errorf("stacks of %s: refused without a reason", what)
				}
			}
		})
	}
}

func status[P interface{ Status() ProbeStatus }](p P, err error) (ProbeStatus, error) {
	if err != nil {
		return ProbeStatus{}, err
	}
	return p.Status(), nil
}
