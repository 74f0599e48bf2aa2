package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// What actCalls does, so often.
const (
	callOpens  = 50
	callParent = 500
)

// actCalls makes system calls whose number and outcome the test knows; dir is its own.
func actCalls() error {
	dir := os.Getenv("SONDE_TEST_ARG")
	for i := range callOpens {
		if _, err := unix.Open(filepath.Join(dir, fmt.Sprint("none", i)), unix.O_RDONLY|unix.O_DIRECTORY, 0); !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("open: %w", err)
		}
	}
	for range callParent {
		unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(s, &unix.SockaddrInet4{Port: 4711, Addr: [4]byte{127, 0, 0, 7}}); err != nil {
		return err
	}
	unix.RawSyscall(unix.SYS_CHDIR, 1, 0, 0) // no path at all
	if err := act("exit", "0").Run(); err != nil {
		return err
	}
	_ = unix.Exec(filepath.Join(dir, "none"), []string{"a", "", "b c"}, []string{"X=1"})
	return unix.Exec("/proc/self/exe", []string{"again", "\xff"}, []string{"SONDE_TEST_ACT=exit", "SONDE_TEST_ARG=0", "TOKEN=hush"})
}

// recordCalls tells of the calls that the points name, while do runs, and returns those
// of processes that this one has started. Ledgers must close.
func recordCalls(t *testing.T, k *Kernel, do func(), points ...string) (all []event.Event) {
	t.Helper()
	runAct(t, "exit", "0") // what the Go runtime tries out at the first child is behind us
	var wanted event.WantedCalls
	for _, name := range points {
		p, ok := event.ParseCallPoint(name)
		if !ok {
			t.Fatalf("no point %s", name)
		}
		wanted.Add(p, event.FieldEnvironment|event.FieldFDPath)
	}
	must(t, "set points", k.SetPoints(event.Syscall))
	c := NewCalls(k)
	all = recordEvents(t, k, func() {
		must(t, "want calls", c.Want(wanted))
		do()
		needAllRuns(t, k)
		must(t, "want nothing", c.Want(event.WantedCalls{}))
	})
	return slices.DeleteFunc(all, func(ev event.Event) bool { return ev.Process.PPID != k.Self().PID })
}

// recordEvents reads the ring while do runs, and returns the events of this process and of
// those that it has started. The ledgers of all points must close.
func recordEvents(t *testing.T, k *Kernel, do func()) (all []event.Event) {
	t.Helper()
	e, err := NewEvents(k, nil)
	must(t, "open ring", err)
	defer e.Close()
	before := submitted(t, k)
	var read uint64
	ended := make(chan error)
	go func() {
		var ev event.Event
		for {
			switch err := e.Next(&ev); {
			case errors.Is(err, io.EOF):
				ended <- nil
				return
			case err != nil:
				ended <- err
				return
			}
			read++
			if self := k.Self().PID; ev.Process.PPID == self || ev.Process.PID == self {
				all = append(all, ev.Clone())
			}
		}
	}()
	do()
	must(t, "mute", k.SetPoints())
	time.Sleep(10 * time.Millisecond) // a program may still be running on another CPU
	must(t, "flush", e.Flush())
	must(t, "read", <-ended)
	if n := submitted(t, k) - before; read != n || e.Stats().Undecodable > 0 {
		t.Errorf("read %d of %d, %+v", read, n, e.Stats())
	}
	return all
}

// submitted returns how many events were put into the ring. None may have been lost.
func submitted(t *testing.T, k *Kernel) (n uint64) {
	t.Helper()
	ledger, err := k.Ledger()
	must(t, "read ledger", err)
	for _, l := range ledger {
		n += l.Submitted
		if l.Dropped > 0 || l.Attempted != l.Submitted {
			t.Errorf("ledger %+v", l)
		}
	}
	return n
}

// told describes an event of a call, as far as the test knows what it has to be.
func told(ev *event.Event, dir string) string {
	c := &ev.Call
	name := event.CallPoint{Number: c.Number, Exit: c.Exit}.String()
	text := func(t event.Text) string {
		if ev.Texts[t].Unreadable {
			return "unreadable"
		}
		return fmt.Sprintf("%q", strings.ReplaceAll(string(ev.Text(t)), dir, "DIR"))
	}
	switch c.Number {
	case unix.SYS_OPENAT:
		return fmt.Sprintf("%s %d %s %#x = %d", name, int32(c.Args[0]), text(event.TextPath), c.Args[2]&unix.O_DIRECTORY, c.Result)
	case unix.SYS_CONNECT:
		return fmt.Sprintf("%s %x = %d", name, ev.Text(event.TextIn), c.Result)
	case unix.SYS_CHDIR:
		return fmt.Sprintf("%s %s = %d", name, text(event.TextPath), c.Result)
	case unix.SYS_EXECVE:
		return fmt.Sprintf("%s %s %s %s = %d", name, text(event.TextPath), text(event.TextArgs), text(event.TextEnv), c.Result)
	}
	return name
}

func TestCallsAreToldExactly(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		dir := t.TempDir()
		all := recordCalls(t, k, func() {
			if got := runAct(t, "calls", dir).ExitStatus(); got != 0 {
				t.Fatalf("the child ended with %d", got)
			}
		}, bothEnds("openat", "connect", "chdir", "execve", "pipe2", "clone", fmt.Sprint("sysno/", unix.SYS_GETPPID),
			fmt.Sprint("sysno/", unix.SYS_CLONE3), fmt.Sprint("sysno/", unix.SYS_EXIT_GROUP))...)
		got := map[string]int{}
		made := map[bool]int{}
		for i := range all {
			ev := &all[i]
			switch ev.Call.Number {
			case unix.SYS_CLONE, unix.SYS_CLONE3:
				made[ev.Call.Exit]++
			case unix.SYS_PIPE2:
				checkPipe(t, ev)
			case unix.SYS_GETPPID:
				if ev.Call.Exit && ev.Call.Result != int64(os.Getpid()) || len(ev.Data) > 0 {
					t.Fatalf("getppid: %+v with texts %q", ev.Call, ev.Data)
				}
			}
			got[told(ev, dir)]++
		}
		want := map[string]int{
			fmt.Sprintf("syscall/sysno/%d/enter", unix.SYS_GETPPID):    callParent,
			fmt.Sprintf("syscall/sysno/%d/exit", unix.SYS_GETPPID):     callParent,
			fmt.Sprintf("syscall/sysno/%d/enter", unix.SYS_EXIT_GROUP): 1,
			fmt.Sprintf("syscall/sysno/%d/exit", unix.SYS_EXIT_GROUP):  0,

			"syscall/connect/enter 020012677f0000070000000000000000 = 0": 1,
			"syscall/connect/exit 020012677f0000070000000000000000 = 0":  1,

			"syscall/chdir/enter unreadable = 0":  1,
			"syscall/chdir/exit unreadable = -14": 1,

			`syscall/execve/enter "DIR/none" "a\x00\x00b c\x00" "X=1\x00" = 0`:                                                   1,
			`syscall/execve/exit "DIR/none" "a\x00\x00b c\x00" "X=1\x00" = -2`:                                                   1,
			`syscall/execve/exit "/proc/self/exe" "again\x00?\x00" "SONDE_TEST_ACT=exit\x00SONDE_TEST_ARG=0\x00TOKEN=\x00" = 0`:  1,
			`syscall/execve/enter "/proc/self/exe" "again\x00?\x00" "SONDE_TEST_ACT=exit\x00SONDE_TEST_ARG=0\x00TOKEN=\x00" = 0`: 1,
		}
		for i := range callOpens {
			want[fmt.Sprintf(`syscall/openat/enter -100 "DIR/none%d" 0x10000 = 0`, i)] = 1
			want[fmt.Sprintf(`syscall/openat/exit -100 "DIR/none%d" 0x10000 = -2`, i)] = 1
		}
		for line, n := range want {
			if got[line] != n {
				t.Errorf("%s: told %d times, not %d", line, got[line], n)
			}
		}
		if made[true] != made[false] || made[true] == 0 {
			t.Errorf("calls that make tasks: %d begun and %d ended", made[false], made[true])
		}
		if t.Failed() {
			for line, n := range got {
				t.Logf("%3d %s", n, line)
			}
		}
	})
}

// actDescriptors reads from what the descriptor in its argument stands for, and closes it.
func actDescriptors() error {
	dir := os.Getenv("SONDE_TEST_ARG")
	if err := os.Chdir(dir); err != nil {
		return err
	}
	var pipe, pair [2]int
	if err := errors.Join(unix.Pipe(pipe[:]), unix.Mkfifo("fifo", 0o600)); err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(os.Rename("file", "renamed"), os.Symlink("renamed", "file")); err != nil {
		return err
	}
	file, err := unix.Open("file", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	fifo, err := unix.Open("fifo", unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	for _, fd := range []int{file, fifo, pipe[0], pair[0], 99} {
		_ = unix.Close(fd)
	}
	return nil
}

// With fd_path the file that a descriptor stands for is told, as the kernel knows it.
func TestDescriptorsHavePaths(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	dir := t.TempDir()
	must(t, "write", os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	all := recordCalls(t, k, func() {
		if got := runAct(t, "descriptors", dir).ExitStatus(); got != 0 {
			t.Fatalf("the child ended with %d", got)
		}
	}, "syscall/openat/enter", "syscall/close/enter", "syscall/close/exit")
	got := map[string]int{}
	for i := range all {
		ev := &all[i]
		path := strings.ReplaceAll(string(ev.Text(event.TextFD)), dir, "DIR")
		if kind, inode, ok := strings.Cut(strings.TrimSuffix(path, "]"), ":["); ok {
			if n, err := strconv.ParseUint(inode, 10, 64); err != nil || n == 0 {
				t.Errorf("path %q", path)
			}
			path = kind
		}
		got[fmt.Sprintf("%v %d %s %s", callPointOf(ev), int32(ev.Call.Args[0]), ev.Text(event.TextPath), path)]++
	}
	count := func(prefix, suffix string) (n int) {
		for line, times := range got {
			if strings.HasPrefix(line, prefix) && strings.HasSuffix(line, suffix) {
				n += times
			}
		}
		return n
	}
	for _, w := range []struct {
		prefix, suffix string
		n              int
	}{
		{"syscall/openat/enter -100 file ", " DIR", 1},
		{"syscall/close/enter ", " DIR/renamed", 1},
		{"syscall/close/enter ", " DIR/fifo", 1},
		{"syscall/close/enter ", " pipe", 1},
		{"syscall/close/enter ", " socket", 1},
		{"syscall/close/enter 99 ", " ", 1},
		{"syscall/close/exit ", " DIR/renamed", 0}, // it is no more
	} {
		if n := count(w.prefix, w.suffix); n != w.n {
			t.Errorf("%s…%s: told %d times, not %d", w.prefix, w.suffix, n, w.n)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

func callPointOf(ev *event.Event) event.CallPoint {
	return event.CallPoint{Number: ev.Call.Number, Exit: ev.Call.Exit}
}

func bothEnds(calls ...string) (points []string) {
	for _, c := range calls {
		points = append(points, "syscall/"+c+"/enter", "syscall/"+c+"/exit")
	}
	return points
}

// checkPipe fails unless a pipe's end tells of both descriptors.
func checkPipe(t *testing.T, ev *event.Event) {
	t.Helper()
	if !ev.Call.Exit {
		return
	}
	out := ev.Text(event.TextOut)
	if len(out) != 8 {
		t.Fatalf("pipe2 gave %x", out)
	}
	fds := (*[2]int32)(unsafe.Pointer(unsafe.SliceData(out)))
	if fds[0] < 3 || fds[1] <= fds[0] {
		t.Errorf("pipe2 gave %v", fds)
	}
}

// Programs are there while something is wanted, and not a moment longer.
func TestCallsCostNothingUnlessWanted(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	c := NewCalls(k)
	objects := len(k.objects)
	var one, two event.WantedCalls
	one.Add(event.CallPoint{Number: unix.SYS_GETPPID, Raw: true}, 0)
	two.Add(event.CallPoint{Number: unix.SYS_GETPPID, Exit: true, Raw: true}, 0)
	must(t, "set points", k.SetPoints(event.Syscall))
	for i, w := range []event.WantedCalls{one, two, {}} {
		must(t, "want", c.Want(w))
		if there := len(k.objects) > objects; there != (w != event.WantedCalls{}) {
			t.Errorf("step %d: programs are there: %v", i, there)
		}
	}
}
