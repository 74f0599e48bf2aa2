package main

import (
	"fmt"
	"runtime"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bench/compare"
)

// thisMachine tells where the runs are made.
func thisMachine() (compare.Machine, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return compare.Machine{}, fmt.Errorf("ask for the kernel's name: %w", err)
	}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return compare.Machine{}, err
	}
	memory, err := fs.Meminfo()
	if err != nil {
		return compare.Machine{}, err
	}
	m := compare.Machine{Kernel: unix.ByteSliceToString(name.Release[:]), Processor: runtime.GOARCH, CPUs: runtime.NumCPU(), Memory: *memory.MemTotalBytes}
	if cpus, err := fs.CPUInfo(); err == nil && len(cpus) > 0 && cpus[0].ModelName != "" {
		m.Processor = cpus[0].ModelName
	}
	return m, nil
}
