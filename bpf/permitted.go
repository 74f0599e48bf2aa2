package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Permitted tries whether this process may use bpf at all: it makes a map and loads
// a tracing program that returns at once, attaches nothing and leaves nothing. The
// error wraps the kernel's errno.
func Permitted() error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("create a map: %w", err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return errors.Join(fmt.Errorf("load a program: %w", err), m.Close())
	}
	return errors.Join(p.Close(), m.Close())
}
