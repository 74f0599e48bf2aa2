package procfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// CgroupKills is how many processes of a cgroup the OOM killer has killed.
type CgroupKills struct {
	// Cgroup is path and inode: one that is made anew in its place is another one.
	Cgroup string
	Kills  uint64 // on v2 those in the cgroups below are counted too
}

// SelfKills reads the kills in the sensor's own cgroup and in the one above it,
// which is empty where there is none to be seen.
func (f FS) SelfKills() (own, parent CgroupKills, err error) {
	cg, err := f.SelfCgroup("memory")
	if err != nil {
		return own, parent, err
	}
	own, err = cg.kills()
	if up := filepath.Dir(cg.Dir); err == nil && cg.Dir != cg.top && len(up) >= len(cg.top) {
		cg.Dir = up
		parent, err = cg.kills()
	}
	return own, parent, err
}

func (c Cgroup) kills() (k CgroupKills, err error) {
	info, err := os.Stat(c.Dir)
	if err != nil {
		return k, err
	}
	k.Cgroup = c.Dir
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		k.Cgroup = fmt.Sprintf("%s:%d", c.Dir, stat.Ino)
	}
	file := "memory.events"
	if c.Version == V1 {
		file = "memory.oom_control"
	}
	counts, err := parsed(filepath.Join(c.Dir, file), parseFlat)
	if errors.Is(err, ErrNoData) { // the root has none
		return CgroupKills{}, nil
	}
	for _, n := range counts {
		if n.Name == "oom_kill" {
			k.Kills = n.Value
		}
	}
	return k, err
}

// BootID names this start of the machine.
func (f FS) BootID() (string, error) {
	return parsed(filepath.Join(f.proc, "sys", "kernel", "random", "boot_id"), parseText)
}
