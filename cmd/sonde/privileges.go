package main

import (
	"fmt"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kept are the capabilities that the sensor still needs when it has attached, with
// what for; docs/privileges.md says the same to users. All others are dropped for
// good: from the bounding set too, and nothing that it could start would gain any.
var kept = []struct {
	bit  uint
	name string
	why  string
}{
	{unix.CAP_BPF, "CAP_BPF", "maps are read, iterators run, probes attached later"},
	{unix.CAP_PERFMON, "CAP_PERFMON", "tracing programs are loaded later, profiles taken"},
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "arguments, maps and namespaces of other users' processes are read"},
	{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", "cgroups are found by their ids, programs of other users are read for symbols"},
	{unix.CAP_SYSLOG, "CAP_SYSLOG", "addresses of kernel symbols"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "run-time statistics of programs; given up with --no-collector.bpf"},
}

// dropPrivileges keeps of the capabilities those that are still needed.
func (a *agent) dropPrivileges() (detail string, err error) {
	have, err := permitted()
	if err != nil {
		return "", err
	}
	var keep uint64
	var names []string
	for _, c := range kept {
		if c.bit == unix.CAP_SYS_ADMIN && !a.config.Collectors["bpf"] && have>>unix.CAP_BPF&1 == 1 {
			continue
		}
		if have>>c.bit&1 == 1 {
			keep |= 1 << c.bit
			names = append(names, c.name)
		}
	}
	if err := confine(keep); err != nil {
		a.log.Warn("privileges not dropped", "err", err)
		return "not dropped", nil
	}
	return strings.Join(names, " "), nil
}

// permitted asks the kernel, and not /proc, which may be another one's or nobody's.
func permitted() (bits uint64, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	sets := [2]unix.CapUserData{}
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return 0, fmt.Errorf("read own capabilities: %w", err)
	}
	return uint64(sets[0].Permitted) | uint64(sets[1].Permitted)<<32, nil
}

// confine takes all capabilities but those to keep from every thread, and the way
// to others.
func confine(keep uint64) error {
	if _, _, errno := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("set no_new_privs: %w", errno)
	}
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if keep>>c&1 == 1 {
			continue
		}
		// EINVAL: the kernel has no such capability; EPERM: we may not, and none is given anyway
		_, _, errno := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0, 0)
		if errno != 0 && errno != unix.EINVAL && errno != unix.EPERM {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, errno)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	sets := [2]unix.CapUserData{}
	for i := range sets {
		word := uint32(keep >> (32 * i))
		sets[i] = unix.CapUserData{Effective: word, Permitted: word}
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0); errno != 0 {
		return fmt.Errorf("set capabilities: %w", errno)
	}
	return nil
}
