package container_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// span is for how many seconds the n-th container of a test sleeps: its mark, which
// nothing has that an earlier run left behind.
func span(n int) string { return strconv.Itoa(10*os.Getpid() + n + 100_000) }

// sleeper finds the process that sleeps for so many seconds, as an event shows it.
func sleeper(t *testing.T, seconds string) event.Process {
	t.Helper()
	var found event.Process
	testenv.Eventually(t, "sleep "+seconds+" runs", func() bool {
		for _, p := range testenv.Commands(t) {
			if p.Args == "/bin/sleep "+seconds {
				found = process(t, p.PID)
				return true
			}
		}
		return false
	})
	return found
}

// process returns a process as the kernel side would.
func process(t *testing.T, pid int) event.Process {
	t.Helper()
	files := procfs.New(procfs.Options{})
	stat, err := files.ProcessStat(uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	return event.Process{PID: uint32(pid), TID: uint32(pid), StartNS: stat.Start*procfs.TickNS + 1234, CgroupID: cgroupID(t, pid)}
}

// cgroupID returns the id of the v2 cgroup of a process, 0 on a machine without v2.
func cgroupID(t *testing.T, pid int) uint64 {
	t.Helper()
	files := procfs.New(procfs.Options{})
	path, _, err := files.ProcessCgroups(uint32(pid))
	if err != nil {
		t.Fatal(err)
	}
	v2 := testenv.CgroupV2()
	if path == "" || v2 == "" {
		return 0
	}
	info, err := os.Stat(filepath.Join(v2, path))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// cgroupV1 returns the id of the cgroup of a process in the tree of a controller.
func cgroupV1(t *testing.T, pid int, tree, controller string) uint64 {
	t.Helper()
	lines, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(lines)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if !slices.Contains(strings.Split(parts[1], ","), controller) {
			continue
		}
		info, err := os.Stat(filepath.Join(tree, parts[2]))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	t.Fatalf("process %d has no cgroup of controller %s", pid, controller)
	return 0
}
