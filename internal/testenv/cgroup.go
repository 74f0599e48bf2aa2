package testenv

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// MemoryCgroup makes a cgroup that may use limit bytes, without swap, and returns
// its directory. It is removed when the test has ended; its members must be gone.
func MemoryCgroup(tb testing.TB, limit int) string {
	tb.Helper()
	Root(tb)
	root, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(filepath.Join(root, file)); err != nil {
		root, file = "/sys/fs/cgroup", "memory.max"
	}
	dir, err := os.MkdirTemp(root, "sonde-test-")
	if err != nil {
		Skip(tb, "needs a memory cgroup: "+err.Error())
	}
	tb.Cleanup(func() {
		for range 100 { // members that are gone are still counted for an instant
			if err = os.Remove(dir); err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		tb.Error(err)
	})
	if err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(limit)), 0); err != nil {
		Skip(tb, "needs a memory limit: "+err.Error())
	}
	os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0) // where there is one
	return dir
}

// CgroupV2 returns the root of cgroup v2, "" where there is none.
func CgroupV2() string {
	found, err := procfs.New(procfs.Options{}).CgroupV2()
	if err != nil || len(found) == 0 {
		return ""
	}
	return found[0].Dir
}
