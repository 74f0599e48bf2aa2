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

// each yields them, with a start in whole ticks. A /proc of another pid namespace is
// an error: its pids are not those that events tell. One that ends meanwhile is left
// out.
func (u *unlisted) each(yield func(*event.Process)) error {
	fs, err := promprocfs.NewFS(u.proc)
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	if self, err := fs.Self(); err != nil {
		return fmt.Errorf("list processes: %w", err)
	} else if self.PID != int(u.self) {
		return fmt.Errorf("list processes: %s shows another pid namespace", u.proc)
	}
	all, err := fs.AllProcs()
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for _, proc := range all {
		if _, known := u.listed[uint32(proc.PID)]; known {
			continue
		}
		if who, alive := u.identify(proc); alive {
			yield(&who)
		}
	}
	return nil
}

// identify says of a process what an event would; alive is false if it has ended.
func (u *unlisted) identify(proc promprocfs.Proc) (who event.Process, alive bool) {
	status, err := proc.NewStatus()
	if err != nil {
		return who, false
	}
	stat, err := proc.Stat()
	// A zombie has ended, unless only its first thread has.
	if err != nil || stat.State == "X" || stat.State == "Z" && stat.NumThreads < 2 {
		return who, false
	}
	pid := uint32(proc.PID)
	who = event.Process{
		PID: pid, TID: pid, PPID: uint32(stat.PPID), UID: uint32(status.UIDs[0]),
		StartNS: stat.Starttime * procfs.TickNS, CgroupID: u.cgroupOf(pid),
	}
	copy(who.Comm[:len(who.Comm)-1], stat.Comm)
	return who, true
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
