package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// ProcessCgroups reads the cgroup paths of a process, as this process's cgroup
// namespace shows them: first that of v2, then those of v1 in the kernel's order.
// v2 is empty where the process is in no v2 hierarchy.
func (f FS) ProcessCgroups(pid uint32) (v2 string, v1 []string, err error) {
	return f.cgroups(strconv.FormatUint(uint64(pid), 10))
}

// SelfCgroups is ProcessCgroups of this process.
func (f FS) SelfCgroups() (v2 string, v1 []string, err error) { return f.cgroups("self") }

func (f FS) cgroups(process string) (v2 string, v1 []string, err error) {
	members, err := parsed(filepath.Join(f.proc, process, "cgroup"), parseCgroup)
	if err != nil {
		return "", nil, err
	}
	for _, m := range members {
		if len(m.controllers) == 0 {
			v2 = m.path
		} else {
			v1 = append(v1, m.path)
		}
	}
	return v2, v1, nil
}

// ProcessStat is what is needed of /proc/<pid>/stat.
type ProcessStat struct {
	State byte   // 'R', 'S', … 'Z' once it has ended
	Start uint64 // since boot, in ticks of 10 ms
}

// OpenExecutable opens the file that a process executes, whatever its path means here.
func (f FS) OpenExecutable(pid uint32) (*os.File, error) {
	return os.Open(filepath.Join(f.process(pid), "exe"))
}

// TickNS is the length of a tick of ProcessStat.Start in nanoseconds: USER_HZ is
// 100 on every architecture the sensor runs on.
const TickNS = 10_000_000

// ProcessStat reads the state and start of a process.
func (f FS) ProcessStat(pid uint32) (ProcessStat, error) {
	return parsed(filepath.Join(f.process(pid), "stat"), parseProcessStat)
}

// parseProcessStat counts fields from the last parenthesis: the name between them
// may hold anything.
func parseProcessStat(r io.Reader) (ProcessStat, error) {
	data, err := io.ReadAll(io.LimitReader(r, 4096))
	if err != nil {
		return ProcessStat{}, err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const state, start = 0, 19 // of the fields after the name
	if len(fields) <= start || len(fields[state]) != 1 {
		return ProcessStat{}, errors.New("too few fields")
	}
	ticks, err := strconv.ParseUint(string(fields[start]), 10, 64)
	if err != nil {
		return ProcessStat{}, fmt.Errorf("start time: %w", err)
	}
	return ProcessStat{State: fields[state][0], Start: ticks}, nil
}
