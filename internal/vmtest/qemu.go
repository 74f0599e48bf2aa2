package vmtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// A Machine is one boot of a kernel with an initramfs. Its directory receives
// console.log (the kernel's words) and report.log (the tests').
type Machine struct {
	Kernel    string // directory with vmlinuz
	Initramfs string
	Arguments string // more for the kernel's command line; NAME=value reaches init as environment
	Dir       string
	Limit     time.Duration // after which it is killed
}

// Run boots the machine, waits until it is off, and returns what it reported.
// The error is about qemu; a guest that crashed is a Report without a verdict.
// The coreutils' timeout guards qemu, so that no machine outlives its limit even
// if this process dies.
func (m Machine) Run(ctx context.Context) (Report, error) {
	console, err := os.Create(filepath.Join(m.Dir, "console.log"))
	if err != nil {
		return Report{}, err
	}
	defer console.Close()
	report := filepath.Join(m.Dir, "report.log")

	seconds := strconv.Itoa(int(m.Limit.Seconds()))
	qemu := exec.CommandContext(ctx, "timeout", "-k", "5", seconds, "qemu-system-x86_64",
		"-accel", "tcg,thread=single", "-cpu", "max", "-M", "pc", "-smp", "2", "-m", "1024",
		"-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-nic", "none", "-monitor", "none",
		"-serial", "stdio", "-serial", "file:"+report,
		"-kernel", filepath.Join(m.Kernel, "vmlinuz"), "-initrd", m.Initramfs,
		"-append", "console=ttyS0 quiet panic=-1 oops=panic mitigations=off lsm=lockdown,capability,bpf "+m.Arguments)
	qemu.Stdout, qemu.Stderr = console, console
	start := time.Now()
	runErr := qemu.Run()
	output, err := os.ReadFile(report)
	if err != nil {
		return Report{}, fmt.Errorf("run qemu: %w (see %s)", runErr, console.Name())
	}
	r := ParseReport(output)
	r.Elapsed = time.Since(start)
	return r, nil
}
