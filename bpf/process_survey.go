package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Survey yields every process that is alive, kernel threads included, as the
// kernel lists them in the agent's pid namespace. The Process is valid during the
// call only.
func (p *Processes) Survey(yield func(*event.Process)) error {
	prog := p.obj.coll.Programs["survey"]
	if prog == nil {
		return fmt.Errorf("list processes: %w", ebpf.ErrNotSupported)
	}
	err := eachRecord(link.IterOptions{Program: prog}, func(raw *kernelProcessId) {
		who := process(raw)
		yield(&who)
	})
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	return nil
}
