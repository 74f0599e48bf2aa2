package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// perfClock is a timer of one CPU that runs a program on each tick, whatever the
// CPU does then.
type perfClock struct {
	fd     int
	period time.Duration
}

// startClocks starts a timer on every CPU that is online. A CPU that comes later is
// not looked at.
func startClocks(prog *ebpf.Program, hz int) (clocks []perfClock, err error) {
	defer func() {
		if err != nil {
			for _, c := range clocks {
				c.close()
			}
		}
	}()
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count CPUs: %w", err)
	}
	for cpu := range cpus {
		c, err := startClock(prog, cpu, hz)
		if errors.Is(err, unix.ENODEV) { // offline
			continue
		}
		if err != nil {
			return clocks, fmt.Errorf("start perf event on CPU %d: %w", cpu, err)
		}
		clocks = append(clocks, c)
	}
	return clocks, nil
}

func startClock(prog *ebpf.Program, cpu, hz int) (perfClock, error) {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Sample: uint64(hz),
		Bits: unix.PerfBitFreq | unix.PerfBitDisabled,
	}
	fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return perfClock{}, os.NewSyscallError("perf_event_open", err)
	}
	c := perfClock{fd, time.Second / time.Duration(hz)}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, prog.FD()); err != nil {
		c.close()
		return perfClock{}, os.NewSyscallError("attach program", err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		c.close()
		return perfClock{}, os.NewSyscallError("enable", err)
	}
	return c, nil
}

// pause stops the timer and returns how many ticks were due.
func (c perfClock) pause() (due uint64, err error) {
	if err := unix.IoctlSetInt(c.fd, unix.PERF_EVENT_IOC_DISABLE, 0); err != nil {
		return 0, os.NewSyscallError("disable perf event", err)
	}
	var ran [8]byte // the clock's count, in nanoseconds
	if _, err := unix.Read(c.fd, ran[:]); err != nil {
		return 0, os.NewSyscallError("read perf event", err)
	}
	return binary.NativeEndian.Uint64(ran[:]) / uint64(c.period), nil
}

func (c perfClock) close() { _ = unix.Close(c.fd) }
