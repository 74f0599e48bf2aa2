package procfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// pids lists the processes that the proc file system shows.
func (f FS) pids() ([]uint32, error) {
	entries, err := os.ReadDir(f.proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []uint32
	for _, e := range entries {
		if pid, err := strconv.ParseUint(e.Name(), 10, 32); err == nil {
			pids = append(pids, uint32(pid))
		}
	}
	return pids, nil
}

// Processes lists all processes, by the pids of the namespace in which this process
// is self. A proc file system of another pid namespace is an error.
func (f FS) Processes(self uint32) ([]uint32, error) {
	link, err := os.Readlink(filepath.Join(f.proc, "self"))
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	if link != strconv.FormatUint(uint64(self), 10) {
		return nil, fmt.Errorf("list processes: %s shows another pid namespace", f.proc)
	}
	return f.pids()
}

// Running tells whether a process has a thread that has not begun to exit.
func (f FS) Running(pid uint32) bool {
	dir := f.process(pid)
	if threadRuns(dir) {
		return true
	}
	threads, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return false // gone
	}
	for _, t := range threads {
		if threadRuns(filepath.Join(dir, "task", t.Name())) {
			return true
		}
	}
	return false
}

// threadRuns reads the thread's flags: the kernel marks a thread that exits
// before it counts it out of its group.
func threadRuns(dir string) bool {
	const flags, exiting = 6, 0x4 // field of stat after the name; PF_EXITING
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return false
	}
	// "pid (name) state ...": the name may hold anything, so look for its end from behind.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= flags {
		return false
	}
	v, err := strconv.ParseUint(string(fields[flags]), 10, 64)
	return err == nil && v&exiting == 0
}

// process is the directory of a process.
func (f FS) process(pid uint32) string {
	return filepath.Join(f.proc, strconv.FormatUint(uint64(pid), 10))
}
