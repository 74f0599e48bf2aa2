package bpf

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// execOf runs the test binary with arguments in a directory and returns the event
// of its exec.
func execOf(t *testing.T, editor *event.Editor, dir string, args ...string) event.Event {
	t.Helper()
	return execOfFile(t, editor, "/proc/self/exe", dir, args...)
}

// execOfFile is execOf with a program of its own, which acts like this one.
func execOfFile(t *testing.T, editor *event.Editor, file, dir string, args ...string) event.Event {
	t.Helper()
	k := newKernel(t, Options{RingBytes: 1 << 20, Editor: editor})
	_, e := recordProcesses(t, k, ProcessesOptions{})
	cmd := act("exit", "0")
	cmd.Path, cmd.Args = file, args
	cmd.Dir = dir
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	for _, ev := range stop(t, k, e) {
		if ev.Point == event.ProcessExec && ev.Process.PID == uint32(cmd.Process.Pid) {
			return ev
		}
	}
	if int(k.Self().PID) != os.Getpid() {
		testenv.Skip(t, "needs the initial pid namespace: the child's pid is compared")
	}
	t.Fatal("no exec of the child")
	return event.Event{}
}

func TestExecCarriesItsTexts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ev := execOf(t, nil, dir, "zeroth", "", "two words", "\xff\u00e9", "")
	for text, want := range map[event.Text]string{
		event.TextPath: "/proc/self/exe",
		event.TextArgs: "zeroth\x00\x00two words\x00?\u00e9\x00\x00",
		event.TextCwd:  dir,
		event.TextExe:  self,
	} {
		if got := string(ev.Text(text)); got != want || ev.Texts[text].Truncated {
			t.Errorf("text %d is %q, truncated %v, want %q", text, got, ev.Texts[text].Truncated, want)
		}
	}
}

func TestExecCarriesWhoItBecame(t *testing.T) {
	runtime.LockOSThread() // threads of other tests are in other network namespaces
	defer runtime.UnlockOSThread()
	ev := execOf(t, nil, "/", "x")
	var file unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &file); err != nil {
		t.Fatal(err)
	}
	if x := ev.Exec; x.Inode != file.Ino || int(x.Links) != int(file.Nlink) || uint32(x.Mode) != file.Mode {
		t.Errorf("executed inode %d, %d links, mode %o; want %d, %d, %o", x.Inode, x.Links, x.Mode, file.Ino, file.Nlink, file.Mode)
	}
	c := ev.Exec.Credentials
	if int(c.UID) != os.Getuid() || int(c.EUID) != os.Geteuid() || int(c.GID) != os.Getgid() || int(c.FSGID) != os.Getegid() {
		t.Errorf("credentials %+v", c)
	}
	if want := capabilities(t, "CapEff"); c.Effective != want {
		t.Errorf("effective capabilities %x, want %x", c.Effective, want)
	}
	n := ev.Exec.Namespaces
	for name, got := range map[string]uint32{
		"uts": n.UTS, "ipc": n.IPC, "mnt": n.Mnt, "pid": n.PID, "pid_for_children": n.PIDForChildren,
		"net": n.Net, "time": n.Time, "time_for_children": n.TimeForChildren, "cgroup": n.Cgroup, "user": n.User,
	} {
		if want := namespace(t, name); got != want {
			t.Errorf("namespace %s is %d, want %d", name, got, want)
		}
	}
	if cwd := string(ev.Text(event.TextCwd)); cwd != "/" {
		t.Errorf("working directory %q", cwd)
	}
}

// capabilities reads a set of our own from /proc.
func capabilities(t *testing.T, set string) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, set+":"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in /proc/self/status", set)
	return 0
}

// namespace returns the inode of one of this thread's, 0 where the kernel has none.
func namespace(t *testing.T, name string) uint32 {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/" + name)
	if os.IsNotExist(err) {
		return 0
	}
	_, inode, ok := strings.Cut(strings.TrimSuffix(link, "]"), "[")
	n, perr := strconv.ParseUint(inode, 10, 32)
	if err != nil || !ok || perr != nil {
		t.Fatalf("namespace %s is %q: %v", name, link, err)
	}
	return uint32(n)
}

func TestExecTextsAreBounded(t *testing.T) {
	var editor event.Editor
	long := strings.Repeat("x", event.ArgsLen)
	ev := execOf(t, &editor, "/", "a", long)
	if got, want := string(ev.Text(event.TextArgs)), ("a\x00" + long)[:event.ArgsLen]; got != want || !ev.Texts[event.TextArgs].Truncated {
		t.Errorf("%d bytes of arguments, truncated %v; want %d", len(got), ev.Texts[event.TextArgs].Truncated, len(want))
	}
	if editor.Sanitized().Cut == 0 {
		t.Error("the cut is not counted")
	}
	ev = execOf(t, &editor, "/", long[:event.ArgsLen-1]) // with its NUL just the bound
	if s := ev.Texts[event.TextArgs]; int(s.Len) != event.ArgsLen || s.Truncated {
		t.Errorf("arguments at the bound: %+v", s)
	}
}

// A directory deeper than what is followed loses its beginning, and says so.
func TestDeepDirectory(t *testing.T) {
	dir := t.TempDir()
	for range 40 {
		dir = filepath.Join(dir, "d")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ev := execOf(t, nil, dir, "x")
	got := string(ev.Text(event.TextCwd))
	if !ev.Texts[event.TextCwd].Truncated || got == "" || !strings.HasSuffix(dir, got) {
		t.Errorf("working directory %q, truncated %v", got, ev.Texts[event.TextCwd].Truncated)
	}
}

func TestWithheldArgumentsNeverArrive(t *testing.T) {
	var editor event.Editor
	editor.KeepArguments(false)
	ev := execOf(t, &editor, "/", "x", "--password=secret")
	if ev.Texts[event.TextArgs].Len != 0 || strings.Contains(string(ev.Data), "secret") {
		t.Errorf("arguments are in %q", ev.Data)
	}
	if path := string(ev.Text(event.TextPath)); path != "/proc/self/exe" {
		t.Errorf("path %q", path)
	}
}

// A file that lies in no directory has a name all the same.
func TestExecOfMemoryFile(t *testing.T) {
	fd, err := unix.MemfdCreate("in memory", 0)
	if err != nil {
		t.Fatal(err)
	}
	program := os.NewFile(uintptr(fd), "memfd")
	defer program.Close()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	if _, err := io.Copy(program, self); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
	ev := execOfFile(t, nil, path, "/", "x")
	if got, want := string(ev.Text(event.TextExe)), "/memfd:in memory"; got != want || ev.Exec.Links != 0 {
		t.Errorf("executed %q with %d links, want %q and none", got, ev.Exec.Links, want)
	}
	if got := string(ev.Text(event.TextPath)); got != path {
		t.Errorf("given as %q, want %q", got, path)
	}
}

// A mount within the working directory's path does not end it.
func TestWorkingDirectoryUnderAMount(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		testenv.Skip(t, "needs to mount a tmpfs: "+err.Error())
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	ev := execOf(t, nil, below, "x")
	if got := string(ev.Text(event.TextCwd)); got != below {
		t.Errorf("working directory %q, want %q", got, below)
	}
}
