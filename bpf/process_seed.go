package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// seed enters the processes that started before the probe was attached. They
// are in the gauge and will be counted when they end; they are no forks.
//
// The kernel's own iterator goes first, then the list: an iterator sees only the
// pid namespace of its opener, may be refused, and has been found to leave out
// pid 1 on a hardened kernel. Where both have spoken, the gauge is exact.
func (p *Processes) seed(k *Kernel, list ProcessList) error {
	now, err := bootTime()
	if err != nil {
		return err
	}
	if err := p.obj.coll.Variables["attached_ns"].Set(now); err != nil {
		return fmt.Errorf("set attached_ns: %w", err)
	}
	iterated := p.seedByIterator()
	var listed error
	p.seeded, listed = seedFromList(p.obj.coll.Maps["alive"], list, k.Self().PID)
	switch nested := int(k.Self().PID) != unix.Getpid(); {
	case iterated == nil && listed != nil && nested:
		p.degraded = fmt.Sprintf("processes outside the agent's pid namespace are only known from their start: %v", listed)
	case iterated != nil && listed == nil:
		p.degraded = fmt.Sprintf("processes found through a list: %v", iterated)
	case iterated != nil:
		p.degraded = fmt.Sprintf("processes are only known from their start: %v; %v", iterated, listed)
	}
	return nil
}

func (p *Processes) seedByIterator() error {
	prog := p.obj.coll.Programs["seed"]
	if prog == nil {
		return p.obj.refused
	}
	if err := runIterator(prog); err != nil {
		return fmt.Errorf("iterate tasks: %w", err)
	}
	return nil
}

// seedFromList enters the processes that a list shows and that are not yet there; it
// returns how many they were. self is the agent's pid in the initial pid namespace. A
// process that ends meanwhile is taken out by whichever comes second, its exit or the
// look back here.
func seedFromList(alive *ebpf.Map, list ProcessList, self uint32) (n int64, err error) {
	if list == nil {
		return 0, errors.New("no list of processes")
	}
	pids, err := list.Processes(self)
	if err != nil {
		return 0, err
	}
	for _, pid := range pids {
		if alive.Update(pid, uint64(0), ebpf.UpdateNoExist) != nil {
			continue
		}
		if list.Running(pid) || alive.Delete(pid) != nil {
			n++
		}
	}
	return n, nil
}
