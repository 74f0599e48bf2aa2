package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	promprocfs "github.com/prometheus/procfs"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// unlisted finds the processes that /proc lists and the kernel's iterator did not.
type unlisted struct {
	machine
	self    uint32              // the sensor's pid in the initial pid namespace
	listed  map[uint32]struct{} // by pid
	cgroups string              // root of the host's cgroup v2 hierarchy, "" if it cannot be seen
}

// each yields them, with a start in whole ticks, but those that known knows by their
// pid and start alone. A /proc of another pid namespace is an error: its pids are not
// those that events tell. One that ends meanwhile is left out.
func (u *unlisted) each(known func(*event.Process) bool, yield func(*event.Process)) error {
	pids, err := u.fs.Processes(u.self)
	if err != nil {
		return err
	}
	fs, err := promprocfs.NewFS(u.proc)
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for _, pid := range pids {
		if _, listed := u.listed[pid]; listed {
			continue
		}
		proc, err := fs.Proc(int(pid))
		if err != nil {
			continue
		}
		stat, err := proc.Stat()
		// A zombie has ended, unless only its first thread has.
		if err != nil || stat.State == "X" || stat.State == "Z" && stat.NumThreads < 2 {
			continue
		}
		who := event.Process{PID: pid, TID: pid, PPID: uint32(stat.PPID), StartNS: stat.Starttime * procfs.TickNS}
		if known(&who) {
			continue
		}
		status, err := proc.NewStatus()
		if err != nil {
			continue
		}
		who.UID, who.CgroupID = uint32(status.UIDs[0]), u.cgroupOf(pid)
		copy(who.Comm[:len(who.Comm)-1], stat.Comm)
		yield(&who)
	}
	return nil
}

// cgroupOf returns the id of a process's v2 cgroup, 0 where it is not known: the inode
// of its directory.
func (u *unlisted) cgroupOf(pid uint32) uint64 {
	path, _, err := u.fs.ProcessCgroups(pid)
	if err != nil || path == "" || u.cgroups == "" {
		return 0
	}
	info, err := os.Stat(filepath.Join(u.cgroups, path))
	if err != nil {
		return 0
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}
