package collectors_test

import "github.com/sonde-ebpf/sonde/internal/gvisor"

type fakeGVisor gvisor.Stats

func (f fakeGVisor) Stats() gvisor.Stats { return gvisor.Stats(f) }

// idleGVisor is a receiver to which nobody has connected.
func idleGVisor() fakeGVisor { return fakeGVisor(gvisor.New(gvisor.Options{}).Stats()) }

func busyGVisor() fakeGVisor {
	s := idleGVisor()
	s.Connections, s.Silent, s.Orphans, s.Dropped = 4, 1, 2, 17
	s.Messages["sentry_exec"], s.Messages["syscall_open"], s.Messages["unknown"] = 11, 12, 1
	s.Events["process/exec"] = 10
	s.Malformed["oversize"], s.Rejected["timeout"] = 3, 5
	return s
}
