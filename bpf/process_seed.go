package bpf

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// seed enters the processes that started before the probe was attached. They
// are in the gauge and will be counted when they end; they are no forks.
//
// The kernel's own iterator goes first, then /proc: an iterator sees only the
// pid namespace of its opener, may be refused, and has been found to leave out
// pid 1 on a hardened kernel. Where both have spoken, the gauge is exact.
func (p *Processes) seed(k *Kernel, root string) error {
	now, err := bootTime()
	if err != nil {
		return err
	}
	if err := p.obj.coll.Variables["attached_ns"].Set(now); err != nil {
		return fmt.Errorf("set attached_ns: %w", err)
	}
	iterated := p.seedByIterator()
	var listed error
	p.seeded, listed = seedFromProc(p.obj.coll.Maps["alive"], root, k.Self().PID)
	switch nested := int(k.Self().PID) != unix.Getpid(); {
	case iterated == nil && listed != nil && nested:
		p.degraded = fmt.Sprintf("processes outside the agent's pid namespace are only known from their start: %v", listed)
	case iterated != nil && listed == nil:
		p.degraded = fmt.Sprintf("processes found through %s: %v", root, iterated)
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

// seedFromProc enters the processes that a proc file system lists and that are
// not yet there; it returns how many they were. self is the agent's pid in the
// initial pid namespace: a proc file system of another one is of no use. A
// process that ends meanwhile is taken out by whichever comes second, its exit
// or the look back here.
func seedFromProc(alive *ebpf.Map, root string, self uint32) (int64, error) {
	if link, err := os.Readlink(filepath.Join(root, "self")); err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	} else if link != strconv.FormatUint(uint64(self), 10) {
		return 0, fmt.Errorf("list processes: %s shows another pid namespace", root)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	var n int64
	for _, e := range entries {
		pid, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil || alive.Update(uint32(pid), uint64(0), ebpf.UpdateNoExist) != nil {
			continue
		}
		if running(root, e.Name()) || alive.Delete(uint32(pid)) != nil {
			n++
		}
	}
	return n, nil
}

// running tells whether a process has a thread that has not begun to exit.
func running(root, pid string) bool {
	dir := filepath.Join(root, pid)
	if threadRuns(dir) {
		return true
	}
	threads, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return false // gone
	}
	for _, t := range threads {
		if threadRuns(filepath.Join(dir, "task", t.Name())) {
			return true
		}
	}
	return false
}

// threadRuns reads the thread's flags: the kernel marks a thread that exits
// before it counts it out of its group.
func threadRuns(dir string) bool {
	const flags, exiting = 6, 0x4 // field of stat after the name; PF_EXITING
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return false
	}
	// "pid (name) state ...": the name may hold anything, so look for its end from behind.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= flags {
		return false
	}
	v, err := strconv.ParseUint(string(fields[flags]), 10, 64)
	return err == nil && v&exiting == 0
}
