package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// hookTable is the table of system-call hooks of the syscalls object: programs
// that it tail-calls after it has counted a call. Not for concurrent use.
type hookTable struct {
	programs *ebpf.Map
	bits     *ebpf.Variable
}

// hookedCall is a system call whose return a program sees.
type hookedCall struct {
	nr      uint32
	program string // without the suffix of its attach kind
}

// ErrNoHooks says that the syscalls probe, which runs the hooks, is not loaded.
var ErrNoHooks = errors.New("system-call hooks need the syscalls probe")

// set installs prog as the hook of system call nr. prog must be of the same
// attach kind as the syscalls object.
func (t hookTable) set(nr uint32, prog *ebpf.Program) error {
	if t.programs == nil {
		return ErrNoHooks
	}
	if nr >= syscallTable {
		return fmt.Errorf("hook system call %d: numbers end at %d", nr, syscallTable-1)
	}
	if err := t.programs.Put(nr, prog); err != nil {
		return fmt.Errorf("hook system call %d: %w", nr, err)
	}
	return t.mark(nr, true)
}

// clear takes the hook of a system call away.
func (t hookTable) clear(nr uint32) error {
	if err := t.mark(nr, false); err != nil {
		return err
	}
	if err := t.programs.Delete(nr); err != nil {
		return fmt.Errorf("unhook system call %d: %w", nr, err)
	}
	return nil
}

// mark says whether a system call has a hook.
func (t hookTable) mark(nr uint32, hooked bool) error {
	var bits [syscallTable / 64]uint64
	if err := t.bits.Get(&bits); err != nil {
		return fmt.Errorf("read hook bits: %w", err)
	}
	if bits[nr/64] &^= 1 << (nr % 64); hooked {
		bits[nr/64] |= 1 << (nr % 64)
	}
	if err := t.bits.Set(bits); err != nil {
		return fmt.Errorf("write hook bits: %w", err)
	}
	return nil
}
