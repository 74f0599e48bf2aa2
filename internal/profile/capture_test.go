package profile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/event"
)

// fakeProc makes a /proc with one process, which has mapped this very program from file
// systems of several kinds.
func fakeProc(t *testing.T, pid int) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	proc := t.TempDir()
	const mounts = "1 0 0:30 / / rw - %s x rw\n2 1 0:31 / /remote rw - %s x rw\n"
	for name, content := range map[string]string{
		fmt.Sprint(pid, "/maps"): fmt.Sprintf("1000-2000 r-xp 00000000 00:1e 7 %s\n3000-4000 r-xp 00000000 00:1f 8 %s\n5000-6000 r-xp 00000000 00:20 9 %s\n7000-8000 r-xp 0 00:00 0\n",
			exe, exe, exe),
		fmt.Sprint(pid, "/mountinfo"): fmt.Sprintf(mounts, "ext4", "fuse.sshfs"),
		"self/mountinfo":              fmt.Sprintf(mounts, "ext4", "nfs4"),
	} {
		path := filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/", filepath.Join(proc, fmt.Sprint(pid), "root")); err != nil {
		t.Fatal(err)
	}
	return proc
}

// Files are opened where opening cannot wait for anybody: not on file systems behind
// which there is a server or a program, nor on ones that nobody knows.
func TestOnlyLocalFilesAreOpened(t *testing.T) {
	const pid = 77
	c := newCapture(fakeProc(t, pid), func(*event.Process, bool) string { return "" })
	defer c.close()
	id := bpf.AddressSpace{ID: 1, PID: pid}
	c.found(id, event.Process{PID: pid})
	if n := len(c.spaces[id].mappings); n != 4 || c.late != 0 {
		t.Errorf("%d mappings, %d processes too late", n, c.late)
	}
	if len(c.images) != 1 || c.images[file{unix.Mkdev(0, 30), 7}] == nil {
		t.Errorf("opened: %v, want that of the local file system alone", c.images)
	}
	if p := c.place(c.spaces[id], 0x3010); p.image != nil || p.mapping == "" || p.address != 0x3010 {
		t.Errorf("a place in a file that is not opened: %+v", p)
	}
	if p := c.place(c.spaces[id], 0x7010); p.mapping != "[anonymous]" {
		t.Errorf("a place in no file: %+v", p)
	}
}

// No more files are kept open than was said.
func TestOpenFilesAreBounded(t *testing.T) {
	const pid = 77
	c := newCapture(fakeProc(t, pid), func(*event.Process, bool) string { return "" })
	defer c.close()
	for i := range MaxImages {
		c.images[file{unix.Mkdev(0, 99), uint64(i)}] = nil
	}
	c.found(bpf.AddressSpace{ID: 1, PID: pid}, event.Process{PID: pid})
	if len(c.images) != MaxImages {
		t.Errorf("%d files, want %d at most", len(c.images), MaxImages)
	}
}
