package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// fakeProc writes a proc file system in which the sensor is process 7.
func fakeProc(t *testing.T, stats map[int]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(pid int, name, text string) {
		t.Helper()
		dir := filepath.Join(root, strconv.Itoa(pid))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for pid, stat := range stats {
		// 22 fields make the start the last one that is looked at; 30 more follow.
		write(pid, "stat", fmt.Sprintf("%d %s%s\n", pid, stat, strings.Repeat(" 0", 30)))
		write(pid, "status", "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t0\t0\t0\t0\n")
	}
	if err := os.Symlink("7", filepath.Join(root, "self")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestUnlisted(t *testing.T) {
	stat := func(state string, threads int) string {
		return fmt.Sprintf("(a) b) %s 3 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 %d 0 250", state, threads)
	}
	proc := fakeProc(t, map[int]string{
		1: stat("S", 1), 2: stat("S", 1), 4: stat("Z", 1), 5: stat("Z", 2), 7: stat("R", 9), 8: "", 9: stat("S", 1),
	})
	u := unlisted{
		machine: newMachine(&settings{procFS: proc, sysFS: "/sys"}), self: 7,
		listed: map[uint32]struct{}{2: {}, 7: {}},
	}
	var got []event.Process
	known := func(who *event.Process) bool { return who.PID == 9 && who.StartNS == 250*procfs.TickNS }
	if err := u.each(known, func(who *event.Process) { got = append(got, *who) }); err != nil {
		t.Fatal(err)
	}
	want := func(pid uint32) event.Process {
		p := event.Process{PID: pid, TID: pid, PPID: 3, UID: 1000, StartNS: 250 * procfs.TickNS}
		copy(p.Comm[:], "a) b")
		return p
	}
	// 2 and 7 were listed, 9 is known, 4 has ended, 8 ended while it was read; of 5 only the first thread has.
	slices.SortFunc(got, func(a, b event.Process) int { return cmp.Compare(a.PID, b.PID) })
	if diff := gocmp.Diff([]event.Process{want(1), want(5)}, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}

	u.self = 8
	if err := u.each(known, func(*event.Process) { t.Error("a process of another namespace") }); err == nil {
		t.Error("no error from a /proc of another pid namespace")
	}
}
